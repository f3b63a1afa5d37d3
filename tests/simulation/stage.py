"""A stage on which messages get lost, come twice and late, and actors die or stand still."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pickle import loads
from typing import Any

from actors.roles.context import CLIENT, SELF, STAGE
from actors.roles.protocol import ActorMessage
from actors.stages.memory import ClientFactory, Died, MemoryStage
from tests.simulation.faults import Faults
from tests.simulation.invariants import Witness
from tests.simulation.peer import Peer

#: Seconds between two kills in one slot, so that no supervisor gives up: 5 a minute are allowed.
SPARED = 13.0
#: Seconds for which a message may be late, and an actor may stand still.
LATE, STILL = 6.0, 40.0
#: Seconds after which a peer takes a connection that stands still for dead.
HEARTBEAT = 20.0

#: What befalls the peer, and the connection to it.
PEER_FAULTS = ("reset", "half open", "cancel", "crash")


class FaultyStage(MemoryStage):
    """Nothing is trusted to arrive, once, or in order; no process is trusted to live."""

    LIMIT = 10_000

    def __init__(
        self,
        clients: Mapping[str, ClientFactory],
        seed: int,
        faults: Faults,
        peer: Peer,
        witness: Witness,
    ) -> None:
        super().__init__(clients, seed)
        self.faults = faults
        self.witness = witness
        self.playing = ""  #: the actor that has its turn
        self.trace: list[tuple[float, str, object, str, str]] = []
        self.peer = peer
        self._pickles = seed % 16 == 0  # what is frozen may be shared, where time is short
        self._late: list[tuple[float, int, str, str, ActorMessage]] = []
        self._still: dict[str, float] = {}  # until when, by name
        self._spared: dict[str, float] = {}

    # ── messages ──────────────────────────────────────────────────────────────

    def post(self, sender: str, to: str, message: ActorMessage) -> None:
        if to == "launcher" or sender == "launcher":
            self._put(sender, to, message)
            return
        self.witness.posted(sender, to, message)
        strikes = self.faults.strikes
        if sender == STAGE:  # a death may be told twice, but is told
            if strikes("told twice"):
                self._late_copy("told twice", sender, to, message)
            self._put(sender, to, message)
            return
        if strikes("repeat"):
            self._late_copy("repeat", sender, to, message)
        if strikes("lose"):
            self._note("lose", message, sender, to)
        elif strikes("delay"):
            self._note("delay", message, sender, to)
            self._put_late(sender, to, message)
        else:
            self._put(sender, to, message)
            mail = self._mail[sender, to]
            if len(mail) > 1 and strikes("swap"):
                self._note("swap", message, sender, to)
                mail[-1], mail[-2] = mail[-2], mail[-1]

    def _put(self, sender: str, to: str, message: ActorMessage) -> None:
        if self._pickles:
            super().post(sender, to, message)
        else:
            self._mail.setdefault((sender, to), deque()).append(message)

    def _late_copy(self, why: str, sender: str, to: str, message: ActorMessage) -> None:
        self._note(why, message, sender, to)
        if self.random.random() < 0.5:
            self._put(sender, to, message)
        else:
            self._put_late(sender, to, message)

    def _put_late(self, sender: str, to: str, message: ActorMessage) -> None:
        due = self.now + LATE * self.random.random()
        heapq.heappush(self._late, (due, next(self._order), sender, to, message))

    # ── steps ─────────────────────────────────────────────────────────────────

    def step(self) -> bool:
        while self._late and self._late[0][0] <= self.now:
            _, _, sender, to, message = heapq.heappop(self._late)
            self._put(sender, to, message)
        if self.faults.live:
            self._strike()
        self.peer.tick(self.now)
        self._still = {name: until for name, until in self._still.items() if until > self.now}
        # A client may be served before the mail that waits, or after.
        clients_first = self.random.random() < 0.3
        if clients_first and self._serve():
            return True
        if self._mail and self._deliver_mail():
            return True
        if not clients_first and self._serve():
            return True
        return self._remind()

    def _deliver_mail(self) -> bool:
        channels = list(self._mail)
        if self._still:
            channels = [channel for channel in channels if channel[1] not in self._still]
            if not channels:
                return False
        channel = channels[int(self.random.random() * len(channels))]
        mail = self._mail[channel]
        message = mail.popleft()
        if not mail:
            del self._mail[channel]
        self._deliver(channel[1], loads(message) if self._pickles else message, channel[0])
        return True

    def _serve(self) -> bool:
        """Let a client work that has something to do."""
        due = []
        for name, context in self.contexts.items():
            if context.world and name not in self._still:
                deadline = context.world.deadline()
                if deadline is not None and deadline <= self.now:
                    due.append(name)
        return bool(due) and self._turn(due[int(self.random.random() * len(due))])

    def _remind(self) -> bool:
        while self._reminders and self._reminders[0][0] <= self.now:
            _, order, name, reminder = heapq.heappop(self._reminders)
            if until := self._still.get(name):
                heapq.heappush(self._reminders, (until, order, name, reminder))
            elif name in self.actors:
                self._deliver(name, reminder, SELF)
                return True
        return False

    def _next_due(self) -> float | None:
        times = [self.peer.due(), *self._still.values()]
        times += [one[0][0] for one in (self._late, self._reminders) if one]
        for name, context in self.contexts.items():
            if context.world and name not in self._still:
                times.append(context.world.deadline())
        return min((time for time in times if time is not None), default=None)

    # ── actors ────────────────────────────────────────────────────────────────

    def create(self, name: str, role: str, parent: str = "launcher") -> None:
        slot = name.partition("#")[0]
        living = [other for other in self.contexts if other.partition("#")[0] == slot]
        self.witness.holds(not living, f"I5: {name} is created while {living} lives")
        super().create(name, role, parent)

    def kill(self, name: str, cause: str) -> None:
        if context := self.contexts.get(name):
            self._note("dead", cause, name, context.parent)
            if context.role == "handler":
                self.witness.died(name)
        super().kill(name, cause)

    def _deliver(self, name: str, message: Any, sender: str) -> None:
        self._note("", message, sender, name)
        if name == "launcher":
            self.outbox.append(message)
        elif actor := self.actors.get(name):
            self.playing = name
            actor.on(message, sender, self.now)
            self._look(name)

    def _turn(self, name: str) -> bool:
        client = self.contexts[name].world
        assert client
        self.playing = name
        try:
            events = client.turn(self.now)
        except Died as death:
            self.kill(name, str(death))
            return True
        for event in events:
            self._note("", event, CLIENT, name)
            self.witness.heard(name, event)
            if actor := self.actors.get(name):
                actor.on(event, CLIENT, self.now)
                self._look(name)
        return True

    def _look(self, name: str) -> None:
        context = self.contexts.get(name)
        if context and context.role == "connection":
            self.witness.audit(self.actors[name], self.now)

    # ── faults ────────────────────────────────────────────────────────────────

    def _strike(self) -> None:
        strikes = self.faults.strikes
        if strikes("kill") and (name := self._prey()):
            self.kill(name, "killed by the simulation")
        if strikes("hang") and (name := self._prey()):
            self._hang(name, STILL * self.random.random())
        for kind in PEER_FAULTS:
            if strikes(kind):
                self._note(kind, "", "", "")
                self.peer.suffer(kind)

    def _prey(self) -> str:
        """Somebody who was spared for long enough; the root is nobody's to restart."""
        slots = {name: name.partition("#")[0] for name in self.contexts}
        prey = [n for n, slot in slots.items() if self._spared.get(slot, 0.0) <= self.now]
        prey = [name for name in prey if self.contexts[name].role != "root"]
        if not prey:
            return ""
        name = self.random.choice(prey)
        self._spared[slots[name]] = self.now + SPARED
        return name

    def _hang(self, name: str, seconds: float) -> None:
        self._note("hang", f"{seconds:.1f} s", name, "")
        self._still[name] = self.now + seconds
        if self.contexts[name].role == "connection" and seconds > HEARTBEAT:
            self.peer.at(self.now + HEARTBEAT, self.peer.give_up)

    def stall(self, seconds: float) -> None:
        """All stand still, and the world does not wait."""
        self._note("stall", f"{seconds:.1f} s", "", "")
        self.now += seconds
        if seconds > HEARTBEAT:
            self.peer.give_up()

    def _note(self, what: str, message: object, sender: str, to: str) -> None:
        self.trace.append((self.now, what, message, sender, to))

    def told(self, last: int) -> str:
        """The end of the trace, for people."""
        return "\n".join(_line(*one) for one in self.trace[-last:])


def _line(now: float, what: str, message: object, sender: str, to: str) -> str:
    return f"{now:10.3f}  {what:12} {_told(message)}  {sender} → {to}"


def _told(message: object) -> str:
    """A message with what is in it, blobs and plans apart."""
    if not is_dataclass(message):
        return str(message)
    told = ((one.name, getattr(message, one.name)) for one in fields(message))
    values = (f"{name}={value!r}" for name, value in told if name not in ("blob", "plan", "report"))
    return f"{type(message).__name__}({', '.join(values)})"
