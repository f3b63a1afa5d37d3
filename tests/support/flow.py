"""The kit as flow tests use it, and one whose messages between actors a test meddles with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from actors import AMQPConnection, App, SpoolConnection
from actors.api.options import Actions
from actors.roles.protocol import ActorMessage
from actors.stages.memory import ClientFactory, MemoryStage
from actors.testing import InMemorySystem

KINDS = ("amqp", "spool")
ACK, REQUEUE, REJECT, DEAD_LETTER = Actions

#: Seconds by which a message of an actor is late: 0.0 in time, None never comes.
Fate = Callable[[str, str, ActorMessage], float | None]


def app_on(kind: str, prefetch: int | None = None, **state: Any) -> App:
    """An app with one connection of a kind."""
    if kind == "amqp":
        app = App(connections=[AMQPConnection(host="memory", prefetch_count=prefetch)])
    else:
        app = App(connections=[SpoolConnection(prefetch_count=prefetch)])
    app.state.update(state)
    return app


class MeddledStage(MemoryStage):
    """Loses and delays what actors say to each other, as it is told."""

    def __init__(self, clients: Mapping[str, ClientFactory], seed: int, fate: Fate) -> None:
        super().__init__(clients, seed)
        self._fate = fate

    def post(self, sender: str, to: str, message: ActorMessage) -> None:
        late = self._fate(sender, to, message)
        if late:
            self.remind("post", late, Late(sender, to, message))
        elif late is not None:
            super().post(sender, to, message)

    def _deliver(self, name: str, message: Any, sender: str) -> None:
        if isinstance(message, Late):
            super().post(message.sender, message.to, message.message)
        else:
            super()._deliver(name, message, sender)


class Late(ActorMessage):
    """A message that is held up."""

    def __init__(self, sender: str, to: str, message: ActorMessage) -> None:
        self.sender, self.to, self.message = sender, to, message


def meddled(app: App, fate: Fate, **options: Any) -> InMemorySystem:
    """A system whose messages meet with a fate."""
    system = InMemorySystem(app, **options)
    system.stage_class = lambda clients, seed: MeddledStage(clients, seed, fate)
    return system


class Nth:
    """Says of the n-th message of a class, of all that pass, that it is so late."""

    def __init__(self, kind: type[ActorMessage], late: float | None, *numbers: int) -> None:
        self._kind = kind
        self._late = late
        self._numbers = numbers or (1,)
        self._seen = 0

    def __call__(self, sender: str, to: str, message: ActorMessage) -> float | None:
        self._seen += isinstance(message, self._kind)
        meant = isinstance(message, self._kind) and self._seen in self._numbers
        return self._late if meant else 0.0
