"""Several hosts in memory: links that lose and are cut, hosts that come, leave and die.

H1  no message is lost: each is acknowledged, once
H2  within an epoch a delivery is handed out again only once who had it is dead
H3  what handlers live at the end are those that the pipeline has, each in a slot of its own
H4  once the faults are over, everything drains
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from array import array
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Any

from actors import Actions, AMQPConnection, App, Message, Options
from actors.logic.supervision.placement import Offer
from actors.plan.build import build_plan
from actors.plan.plan import NodePlan
from actors.plan.settings import Settings
from actors.roles.protocol import ActorMessage, Bulk, Configure, Drained, HandlerLost, Settlement
from actors.roles.supervision.node_protocol import NodeLeave
from actors.stages.memory import ClientFactory, MemoryStage
from actors.testing import InMemorySystem, Sent

FIRST = "one"  #: the host of the leader
LEADER = "one:1900"  #: its address
ROOT = "root#1"  #: what the kit calls the root, whichever it is by now

#: Virtual seconds in which all must be done once the faults are over.
BOUND = 1800.0

_ITEM = array("I").itemsize

#: Batcher, epoch and position of a delivery.
Receipt = tuple[str, int, int]


class HostsStage(MemoryStage):
    """Actors belong to hosts; what they say to other hosts passes a bad network."""

    def __init__(self, clients: Mapping[str, ClientFactory], seed: int, noise: float) -> None:
        super().__init__(clients, seed)
        self.noise = noise  #: how likely each fault is, for each message between hosts
        self.hosts: dict[str, str] = {}  #: by actor
        self.cut: set[tuple[str, str]] = set()  #: from a host to another
        self.paused: set[str] = set()  #: hosts whose processes are all stopped
        self.taken: set[str] = set()  #: handlers whose bulks may be handed out again
        self.suspended: set[str] = set()  #: that were on a host when it was paused
        self.playing = ""  #: the actor whose client works
        self._asleep: list[tuple[str, ActorMessage]] = []  # what is due on hosts that are paused
        self.root = ""
        self.trace: list[str] = []
        self.broken: list[str] = []  #: what should not have happened
        self._holders: dict[Receipt, str] = {}  # the handler that has a delivery
        self._held: dict[tuple[str, int], list[Receipt]] = {}  # by handler and number of the bulk
        self._starts = 0
        self._late: list[tuple[float, int, str, str, ActorMessage]] = []

    def create(self, name: str, role: str, parent: str = "launcher") -> None:
        if role == "root":
            self._starts += 1
            name = self.root = f"root#{self._starts}"
        self.hosts[name] = self.hosts.get(parent) or parent.partition("@")[2] or FIRST
        self.note(f"{self.hosts[name]}: {name} begins")
        super().create(name, role, parent)

    def kill(self, name: str, cause: str) -> None:
        if name in self.contexts:
            self.note(f"{self.hosts[name]}: {name} ends: {cause}")
        super().kill(name, cause)

    def post(self, sender: str, to: str, message: ActorMessage) -> None:
        to = self.root if to in (LEADER, ROOT) else to
        if isinstance(message, Settlement):
            for receipt in (r for n in message.numbers for r in self._held.get((sender, n), ())):
                if self._holders.get(receipt) == sender:
                    del self._holders[receipt]
        link = self.hosts.get(sender, ""), self.hosts.get(to, "")
        if not all(link) or link[0] == link[1]:
            super().post(sender, to, message)
            return
        if link in self.cut or self.random.random() < self.noise:
            self.note(f"lost: {message} {sender} → {to}")
            return
        for _ in range(1 + (self.random.random() < self.noise)):
            delay = 6.0 * self.random.random() if self.random.random() < self.noise else 0.0
            due = self.now + delay
            heapq.heappush(self._late, (due, next(self._order), sender, to, message))

    def step(self) -> bool:
        while self._late and self._late[0][0] <= self.now:
            _, _, sender, to, message = heapq.heappop(self._late)
            super().post(sender, to, message)
            mail = self._mail[sender, to]
            if len(mail) > 1 and self.random.random() < self.noise:
                mail[-1], mail[-2] = mail[-2], mail[-1]
        frozen = {to: mail for to, mail in self._mail.items() if self._is_paused(to[1])}
        self._mail = {to: mail for to, mail in self._mail.items() if to not in frozen}
        try:
            return super().step()
        finally:
            for channel, mail in frozen.items():
                mail.extend(self._mail.pop(channel, ()))
                self._mail[channel] = mail

    def pause(self, host: str) -> None:
        """All processes of a host stop where they are; what is sent to them waits."""
        self.paused.add(host)
        self.suspended |= {name for name in self.contexts if self.hosts[name] == host}
        self.note(f"{host}: is paused")

    def go_on(self, host: str) -> None:
        """They go on, and find all at once what came and what fell due meanwhile."""
        if host in self.paused:
            self.paused.discard(host)
            asleep, self._asleep = self._asleep, []
            for name, reminder in asleep:
                self.remind(name, 0.0, reminder)
            self.note(f"{host}: goes on")

    def _is_paused(self, name: str) -> bool:
        return bool(self.paused) and self.hosts.get(name) in self.paused

    def _turn(self, name: str) -> bool:
        self.playing = name
        return not self._is_paused(name) and super()._turn(name)

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now:9.3f}  {text}")

    def _next_due(self) -> float | None:
        worlds = [c.world for name, c in self.contexts.items() if not self._is_paused(name)]
        times = [world.deadline() for world in worlds if world]
        times += [queue[0][0] for queue in (self._reminders, self._late) if queue]
        return min((time for time in times if time is not None), default=None)

    def _deliver(self, name: str, message: Any, sender: str) -> None:
        if self.hosts.get(sender, FIRST) != self.hosts.get(name, FIRST):
            self.note(f"{message} {sender} → {name}")
        if name.startswith("launcher@"):
            if isinstance(message, Drained):
                self.die(name.partition("@")[2])
            return
        if self._is_paused(name):  # a reminder; all else waits in its mail
            self._asleep.append((name, message))
            return
        if isinstance(message, HandlerLost):
            self.taken.add(message.handler)
        if isinstance(message, Bulk) and name in self.contexts:
            self._hand_out(message, sender, name)
        super()._deliver(name, message, sender)

    def _hand_out(self, bulk: Bulk, batcher: str, handler: str) -> None:
        """A handler has what came to it, until it is dead or has answered."""
        if handler in self.suspended & self.taken:
            return  # it came while the host was paused, and is another's: it must not begin (H4)
        receipts = (
            (batcher, piece.epoch, piece.first + index)
            for piece in bulk.pieces
            for index in range(len(piece.ends) // _ITEM)
        )
        for number, size in enumerate(bulk.sizes, bulk.number):
            those = list(itertools.islice(receipts, size))
            if (handler, number) in self._held:
                continue  # it came before
            self._held[handler, number] = those
            for receipt in those:
                # Who was paused cannot end by itself in time: it must not begin (H4).
                others = self.contexts.keys() - self.suspended - {handler}
                if self._holders.get(receipt, handler) in others:
                    self.broken.append(f"H2: {receipt} is handed out while another has it")
                self._holders[receipt] = handler

    def die(self, host: str) -> None:
        """A host is gone, with all that runs on it; nobody is told."""
        self.paused.discard(host)
        for name in [name for name in self.contexts if self.hosts[name] == host]:
            context = self.contexts.pop(name, None)
            if context and context.world:
                context.world.close()
            self.actors.pop(name, None)
            for channel in [channel for channel in self._mail if channel[1] == name]:
                del self._mail[channel]
        self.note(f"{host}: is gone")


class HostsSystem(InMemorySystem):
    """A system of several hosts."""

    stage: HostsStage

    def __init__(self, app: App, seed: int, noise: float, **settings: Any) -> None:
        resolved = Settings(host_name=FIRST, **settings)
        super().__init__(app, state={}, raise_errors=False, seed=seed, settings=resolved)
        self.stage_class = partial(HostsStage, noise=noise)
        self.joined: dict[str, str] = {}  #: the host supervisors of those that were not killed
        self._joins = 0

    def join(self, host: str, offers: tuple[Offer, ...] = (), version: str = "") -> None:
        """A host starts, and joins."""
        self._joins += 1
        name, launcher = f"host#{host}-{self._joins}", f"launcher@{host}"
        self.joined[host] = name
        self.stage.create(name, "host", launcher)
        plan = NodePlan("", "", host, offers, version)
        self.stage.post(
            launcher, name, Configure(plan, "host", supervisor=launcher, leaders=(LEADER,))
        )
        self.run_until_idle()

    def kill_host(self, host: str) -> None:
        self.stage.die(host)
        self.joined.pop(host, None)
        self.run_until_idle()

    def drain_host(self, host: str) -> None:
        self.stage.post("launcher", ROOT, NodeLeave(host))
        self.run_until_idle()

    def restart_leader(self, seconds: float) -> None:
        """The first host dies, and comes back after a while."""
        self.stage.die(FIRST)
        self.advance(seconds)
        self.stage.create(ROOT, "root")
        plan = build_plan(self._app, self._settings)
        self.stage.post("launcher", ROOT, Configure(plan, "root"))
        self.run_until_idle()

    def handlers(self, host: str) -> list[str]:
        """Those that live there."""
        return [name for name in self.stage.named("handler") if self.stage.hosts[name] == host]


class HostsPlay:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random = Random(seed)
        self.noise = random.choice((0.0, 0.02, 0.2))
        self.offers: tuple[str, ...] = ("gpu",) if random.random() < 0.3 else ()
        self.heal_at: dict[tuple[str, str], float] = {}
        self.go_on_at: dict[str, float] = {}
        self.spared_until = 0.0
        self.sent: list[Sent] = []
        self.names = iter(f"host{number}" for number in range(1, 1000))
        self.system = HostsSystem(self._app(), seed, self.noise, offer=self.offers)

    def run(self) -> None:
        """Raises AssertionError where anything does not hold."""
        with self.system:
            for _ in range(self.random.randint(5, 25)):
                self._deliver(self.random.randint(0, 12))
                self.random.choice((self._join, self._cut, self._pause, self._end, self._kill))()
                self._advance(self.random.choice((0.0, 0.5, 3.0, 10.0, 20.0)))
            self._rest()
            self._check()

    def _app(self) -> App:
        random = self.random
        prefetch = random.choice((1, 4, 20))
        app = App(connections=[AMQPConnection(host="memory", prefetch_count=prefetch)])
        both: dict[Options, Any] = {
            Options.BULK_SIZE: random.choice((1, 3)),
            Options.BULK_FLUSH_INTERVAL: 0.5,
            Options.CONCURRENCY: random.choice((1, 2)),
            Options.TIMEOUT: 200.0,
            Options.ORDER_BY: random.choice(("", "", "header:key")),
            Options.POOL: random.choice(("", "", "both")),
        }
        app.route(["a"], options=both)(self._handle)
        app.route(["b"], options=both | {Options.REQUIRES: {"gpu": True}})(self._handle)
        return app

    async def _handle(self, messages: list[Message[int]]) -> None:
        stage = self.system.stage
        if stage.playing in stage.taken:
            stage.broken.append(f"H4: {stage.playing} begins a bulk that was taken from it")
        await asyncio.sleep(self.random.choice((0.0, 0.1, 3.0, 30.0)))
        if self.random.random() < 0.05:
            raise RuntimeError("as told")

    # ── what happens ──────────────────────────────────────────────────────────

    def _deliver(self, count: int) -> None:
        for number in range(count):
            headers = {"key": str(self.random.randint(1, 3))}
            self.sent += self.system.deliver(self.random.choice("ab"), [number], headers=headers)

    def _join(self) -> None:
        offers: tuple[Offer, ...] = (("gpu", 2),) if self.random.random() < 0.5 else ()
        self.system.join(next(self.names), offers)

    def _cut(self) -> None:
        if self.system.joined:
            there = FIRST, self.random.choice(sorted(self.system.joined))
            for link in self.random.choice(((there,), (there[::-1],), (there, there[::-1]))):
                self.system.stage.cut.add(link)
                self.heal_at[link] = self.system.stage.now + 60.0 * self.random.random()

    def _pause(self) -> None:
        """A host is suspended, for less than it takes to lose it, or for longer."""
        if running := sorted(self.system.joined.keys() - self.go_on_at.keys()):
            host = self.random.choice(running)
            self.system.stage.pause(host)
            self.go_on_at[host] = self.system.stage.now + 40.0 * self.random.random()

    def _kill(self) -> None:
        """One actor dies; not so often that the system gives up: 5 deaths a minute are allowed."""
        stage = self.system.stage
        if stage.now >= self.spared_until:
            role = self.random.choice(("pipeline", "connection", "batcher", "handler", "handler"))
            if living := sorted(stage.named(role)):
                stage.kill(self.random.choice(living), "killed by the simulation")
                self.spared_until = stage.now + 13.0

    def _end(self) -> None:
        end = self.random.random()
        if end < 0.2:
            self.system.restart_leader(self.random.choice((0.0, 5.0, 30.0)))
        elif self.system.joined:
            host = self.random.choice(sorted(self.system.joined))
            if end < 0.6:
                self.system.kill_host(host)
            else:
                self.system.drain_host(host)
                self.system.joined.pop(host)

    def _advance(self, seconds: float) -> None:
        """Let time pass, and links heal when they do."""
        end = self.system.stage.now + seconds
        while self.heal_at and min(self.heal_at.values()) <= end:
            link = min(self.heal_at, key=self.heal_at.__getitem__)
            self.system.advance(max(0.0, self.heal_at.pop(link) - self.system.stage.now))
            self.system.stage.cut.discard(link)
            self._wake()
        while self.go_on_at and (first := min(self.go_on_at.values())) <= end:
            self.system.advance(max(0.0, first - self.system.stage.now))
            self._wake()
        self.system.advance(end - self.system.stage.now)

    def _wake(self) -> None:
        for host in [host for host, at in self.go_on_at.items() if at <= self.system.stage.now]:
            del self.go_on_at[host]
            self.system.stage.go_on(host)

    def _rest(self) -> None:
        """No more faults; a host that offers all is there."""
        self._advance(60.0)
        self.system.stage.noise = 0.0
        self.system.join("last", (("gpu", 1),))
        end = self.system.stage.now + BOUND
        while self.system.stage.now < end and not all(ended(sent) for sent in self.sent):
            self.system.advance(5.0)
        self.system.advance(70.0)

    # ── what must hold ────────────────────────────────────────────────────────

    def _check(self) -> None:
        broken = list(self.system.stage.broken)
        for number, sent in enumerate(self.sent):
            if ended(sent) != 1:
                broken.append(f"H1: {number} was ended {ended(sent)} times: {sent.actions}")
        assert not broken, "\n".join(broken)
        status = self.system.status()
        assert status["ready"], json.dumps(status, indent=1)
        assert status["totals"]["in_flight"] == 0, status
        shown = sorted(a["name"] for a in status["actors"] if a["role"] == "handler")
        living = sorted(name.partition("#")[0] for name in self.system.stage.named("handler"))
        assert shown == living, f"H3: {shown} are known, {living} live"


def ended(sent: Sent) -> int:
    return sent.actions.count(Actions.ACK)
