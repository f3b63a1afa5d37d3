"""The stage in memory: the same actors in one thread, in virtual time.

Every message is pickled on its way. Messages from one actor to another keep their order;
which of the waiting ones comes next is drawn from a seed.
"""

from __future__ import annotations

import heapq
import itertools
import pickle
from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from actors.roles.batcher import Batcher
from actors.roles.clock import Clock
from actors.roles.connection import Connection
from actors.roles.context import CLIENT, SELF, STAGE, Actor, Client
from actors.roles.handler import Handler
from actors.roles.protocol import ActorMessage, ChildExited
from actors.roles.supervision.node import NodeSupervisor
from actors.roles.supervision.pipeline import PipelineSupervisor
from actors.roles.supervision.system import SystemSupervisor

ROLES: dict[str, Callable[[Any], Actor]] = {
    "root": SystemSupervisor,
    "host": NodeSupervisor,
    "pipeline": PipelineSupervisor,
    "connection": Connection,
    "batcher": Batcher,
    "handler": Handler,
    "clock": Clock,
}

#: Makes an actor's client from the settings that the actor names.
ClientFactory = Callable[[Any], Client]


class Died(Exception):
    """Raised by a client of an actor whose process is to die, with the cause."""


class MemoryContext:
    """The hands of one actor on this stage."""

    def __init__(self, stage: MemoryStage, name: str, role: str, parent: str) -> None:
        self.name = name
        self.role = role
        self.parent = parent
        self.pid = next(stage.pids)
        self.random = Random(stage.random.random())
        self.world: Client | None = None
        self._stage = stage

    def send(self, to: str, message: ActorMessage) -> None:
        self._stage.post(self.name, to, message)

    def remind(self, seconds: float, reminder: ActorMessage) -> None:
        self._stage.remind(self.name, seconds, reminder)

    def clock(self) -> float:
        return self._stage.now

    def create(self, name: str, role: str) -> None:
        self._stage.create(name, role, parent=self.name)

    def kill(self, name: str) -> None:
        self._stage.kill(name, "killed by its supervisor")

    def exit(self) -> None:
        self._stage.kill(self.name, "exited")

    def client(self, kind: str, settings: Any) -> Any:
        self.world = self._stage.clients[kind](settings)
        return self.world


class MemoryStage:
    """Plays actors one message at a time; nothing happens but in `step` and `advance`."""

    #: Steps without virtual time passing after which something spins.
    LIMIT = 200_000

    def __init__(self, clients: Mapping[str, ClientFactory], seed: int = 0) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.clients = clients
        self.pids = itertools.count(1)
        self.actors: dict[str, Actor] = {}
        self.contexts: dict[str, MemoryContext] = {}
        self.outbox: list[ActorMessage] = []  #: what was sent to the launcher
        self._mail: dict[tuple[str, str], deque[Any]] = {}
        self._reminders: list[tuple[float, int, str, ActorMessage]] = []
        self._order = itertools.count()

    # ── what contexts and the outside may do ──────────────────────────────────

    def create(self, name: str, role: str, parent: str = "launcher") -> None:
        """Start an actor."""
        context = MemoryContext(self, name, role, parent)
        self.contexts[name] = context
        self.actors[name] = ROLES[role](context)

    def post(self, sender: str, to: str, message: ActorMessage) -> None:
        """Put a message on its way."""
        self._mail.setdefault((sender, to), deque()).append(pickle.dumps(message))

    def remind(self, name: str, seconds: float, reminder: ActorMessage) -> None:
        due = self.now + max(0.0, seconds)
        heapq.heappush(self._reminders, (due, next(self._order), name, reminder))

    def kill(self, name: str, cause: str) -> None:
        """End an actor and all below it, mail and all; its supervisor is told."""
        context = self.contexts.pop(name, None)
        if context is None:
            return
        del self.actors[name]
        if context.world:
            context.world.close()
        for child in [c.name for c in self.contexts.values() if c.parent == name]:
            self.kill(child, "its supervisor is gone")
        for channel in [channel for channel in self._mail if channel[1] == name]:
            del self._mail[channel]
        self.post(STAGE, context.parent, ChildExited(name, cause))

    def close(self) -> None:
        """End everything, and tell nobody."""
        for context in self.contexts.values():
            if context.world:
                context.world.close()
        self.contexts.clear()
        self.actors.clear()
        self._mail.clear()
        self._reminders.clear()

    def named(self, role: str) -> list[str]:
        """The living actors of a role."""
        return [name for name, context in self.contexts.items() if context.role == role]

    # ── time ──────────────────────────────────────────────────────────────────

    def advance(self, seconds: float) -> None:
        """Let virtual time pass, with all that falls due in it."""
        until = self.now + seconds
        self.run_until_idle()
        while (due := self._next_due()) is not None and due <= until:
            self.now = max(self.now, due)
            self.run_until_idle()
        self.now = until
        self.run_until_idle()

    def run_until_idle(self) -> None:
        """Play until nothing is left to do at this moment."""
        for _ in range(self.LIMIT):
            if not self.step():
                return
        raise RuntimeError(f"{self.LIMIT} steps at one moment: something spins")

    def step(self) -> bool:
        """Deliver one message, or what is due. False: there is nothing to do now."""
        if self._mail:
            channel = self.random.choice(list(self._mail))
            sender, to = channel
            mail = self._mail[channel]
            message = pickle.loads(mail.popleft())
            if not mail:
                del self._mail[channel]
            self._deliver(to, message, sender)
            return True
        if self._reminders and self._reminders[0][0] <= self.now:
            _, _, name, reminder = heapq.heappop(self._reminders)
            self._deliver(name, reminder, SELF)
            return True
        return sum(self._turn(name) for name in list(self.contexts)) > 0

    # ── the inside ────────────────────────────────────────────────────────────

    def _deliver(self, name: str, message: Any, sender: str) -> None:
        if name == "launcher":
            self.outbox.append(message)
        elif actor := self.actors.get(name):
            actor.on(message, sender, self.now)
            self._turn(name)

    def _turn(self, name: str) -> bool:
        """Let an actor's client work; whether it had anything to say."""
        context = self.contexts.get(name)
        if context is None or context.world is None:
            return False
        try:
            events = context.world.turn(self.now)
        except Died as death:
            self.kill(name, str(death))
            return True
        for event in events:
            if actor := self.actors.get(name):
                actor.on(event, CLIENT, self.now)
        return bool(events)

    def _next_due(self) -> float | None:
        times = [context.world.deadline() for context in self.contexts.values() if context.world]
        if self._reminders:
            times.append(self._reminders[0][0])
        return min((time for time in times if time is not None), default=None)
