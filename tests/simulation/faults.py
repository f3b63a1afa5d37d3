"""A stage and a world that lose, repeat, delay and kill, all drawn from one seed."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from actors.clients import Fetched
from actors.context import SELF, STAGE
from actors.errors import Fault
from actors.plan import UnitPlan
from actors.protocol import ActorMessage
from actors.stages.memory import ClientFactory, MemoryStage
from actors.stages.world import Channel, World, WorldClient

#: Seconds between two kills in one slot, so that no supervisor gives up: 5 a minute are allowed.
SPARED = 13.0


@dataclass
class Faults:
    """How likely each fault is, for each message or step. A seed enables some of them."""

    lose: float = 0.0
    repeat: float = 0.0
    swap: float = 0.0
    delay: float = 0.0
    kill: float = 0.0
    cut: float = 0.0
    unreachable: float = 0.0
    lose_queue: float = 0.0
    refuse_copies: float = 0.0
    small_chunks: float = 0.0

    @classmethod
    def drawn(cls, random: Random) -> Faults:
        """Swarm: every seed has other faults, at other rates."""
        highest = {
            "lose": 0.2, "repeat": 0.3, "swap": 0.3, "delay": 0.2, "kill": 0.02, "cut": 0.3,
            "unreachable": 0.5, "lose_queue": 0.3, "refuse_copies": 0.3, "small_chunks": 1.0,
        }  # fmt: skip
        faults = cls()
        for one in fields(cls):
            if random.random() < 0.5:
                setattr(faults, one.name, highest[one.name] * random.random() ** 2)
        return faults

    def __str__(self) -> str:
        rates = ((one.name, getattr(self, one.name)) for one in fields(self))
        return ", ".join(f"{name} {rate:.3f}" for name, rate in rates if rate) or "none"


class FaultyStage(MemoryStage):
    """Nothing is trusted to arrive, once, or in order; no process is trusted to live."""

    def __init__(self, clients: Mapping[str, ClientFactory], seed: int, faults: Faults) -> None:
        super().__init__(clients, seed)
        self.faults = faults
        self.trace: list[str] = []
        self._late: list[tuple[float, int, str, str, ActorMessage]] = []
        self._spared: dict[str, float] = {}

    def create(self, name: str, role: str, parent: str = "launcher") -> None:
        slot = name.partition("#")[0]
        living = [other for other in self.contexts if other.partition("#")[0] == slot]
        assert not living, f"I5: {name} is created while {living} lives"
        super().create(name, role, parent)

    def post(self, sender: str, to: str, message: ActorMessage) -> None:
        faults, random = self.faults, self.random
        if to == "launcher" or sender == "launcher":
            super().post(sender, to, message)
            return
        if random.random() < faults.repeat:
            self._note(f"repeat {message} {sender} → {to}")
            super().post(sender, to, message)
        if sender == STAGE:
            super().post(sender, to, message)  # a death may be told twice, but is told
        elif random.random() < faults.lose:
            self._note(f"lose {message} {sender} → {to}")
        elif random.random() < faults.delay:
            self._note(f"delay {message} {sender} → {to}")
            due = self.now + 6.0 * random.random()
            heapq.heappush(self._late, (due, next(self._order), sender, to, message))
        else:
            super().post(sender, to, message)
            self._swap(sender, to)

    def step(self) -> bool:
        while self._late and self._late[0][0] <= self.now:
            _, _, sender, to, message = heapq.heappop(self._late)
            super().post(sender, to, message)
        if self.random.random() < self.faults.kill:
            self._kill_one()
        if self.contexts and self.random.random() < 0.3:
            # A client may be served before the mail that waits.
            return self._turn(self.random.choice(list(self.contexts))) or super().step()
        return super().step()

    def rest(self) -> None:
        """No more faults."""
        self.faults = Faults()

    def _swap(self, sender: str, to: str) -> None:
        mail = self._mail[sender, to]
        if len(mail) > 1 and self.random.random() < self.faults.swap:
            self._note(f"swap {sender} → {to}")
            mail[-1], mail[-2] = mail[-2], mail[-1]

    def _kill_one(self) -> None:
        slots = {name: name.partition("#")[0] for name in self.contexts}
        prey = [
            name
            for name, slot in slots.items()
            if self.contexts[name].role != "root" and self._spared.get(slot, 0.0) <= self.now
        ]
        if prey:
            name = self.random.choice(prey)
            self._spared[slots[name]] = self.now + SPARED
            self._note(f"kill {name}")
            self.kill(name, "killed by the simulation")

    def _next_due(self) -> float | None:
        times = [super()._next_due(), self._late[0][0] if self._late else None]
        return min((time for time in times if time is not None), default=None)

    def _deliver(self, name: str, message: Any, sender: str) -> None:
        if sender != SELF:
            self._note(f"{message} {sender} → {name}")
        super()._deliver(name, message, sender)

    def _note(self, text: str) -> None:
        self.trace.append(f"{self.now:10.3f}  {text}")


class FaultyWorld(World):
    """Its connections break, its queues go and come, its copies fail."""

    stage: FaultyStage

    def client(self, plan: UnitPlan) -> WorldClient:
        self.clients[plan.name] = FaultyClient(self, plan)
        return self.clients[plan.name]

    def suffer(self, random: Random, faults: Faults) -> None:
        """What befalls it in the next while."""
        self.reachable = random.random() >= faults.unreachable
        self.storing = random.random() >= faults.refuse_copies
        if random.random() < faults.cut:
            self.disconnect()
        if self.queues and random.random() < faults.lose_queue:
            self.lose_queue(random.choice(sorted(self.queues)), "cancelled", Fault.UNREACHABLE)

    def rest(self) -> None:
        """No more faults."""
        self.reachable = self.storing = True


class FaultyClient(WorldClient):
    """Brings chunks of any size."""

    _world: FaultyWorld

    def _fetch(self, epoch: int, channel: Channel, room: int) -> Fetched | None:
        stage = self._world.stage
        if room > 0 and stage.random.random() < stage.faults.small_chunks:
            room = stage.random.randint(0, room)
        chunk = super()._fetch(epoch, channel, room)
        held = len(channel.unsettled) + len(channel.moved)
        assert held <= channel.window, f"I4: {held} unsettled, the prefetch is {channel.window}"
        return chunk
