"""The acts that an actor has towards the world, and nothing else.

An actor is a plain class with `on(message, sender, now)`. Two stages implement
this context: `stages.thespian` for real, `stages.memory` in virtual time.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from actors.logic.bulks.bulk import Piece
    from actors.logic.bulks.deaths import Deaths
    from actors.roles.protocol import ActorMessage

#: The sender of what an actor's own client reports, of its reminders, and of stage news.
CLIENT = "client"
SELF = "self"
STAGE = "stage"


class Client(Protocol):
    """A piece of the outer world, driven by its owner's thread.

    The stage calls `turn` when `fileno` is readable or `deadline` is over, and hands
    every event to the actor as a message from `CLIENT`. No call blocks for long.
    """

    def fileno(self) -> int:
        """A descriptor that is readable when `turn` has work; -1 where there is none."""

    def deadline(self) -> float | None:
        """Monotonic seconds by which `turn` must be called even if nothing is readable."""

    def turn(self, now: float) -> list[Any]:
        """Do what is due and say what happened, in order."""

    def close(self) -> None:
        """Let go of everything at once."""


class Journal(Client, Protocol):
    """The bulks that handlers hold, kept where they outlive the death of the whole worker."""

    deaths: dict[bytes, Deaths]  #: of messages known from killed workers
    suspects: set[bytes]  #: held by the worker that was killed last

    def record(self, bulks: Collection[int], pieces: Sequence[Piece]) -> None:
        """A message with bulks of these numbers goes to a handler."""

    def release(self, bulks: Iterable[int]) -> None:
        """These are in nobody's hand any more: answered, or their handler is dead."""

    def forget(self, message: bytes) -> None:
        """A message is settled: no death counts against it any more."""


class Context(Protocol):
    """The means of an actor: messages, reminders, children, and a client of the world."""

    name: str  #: of this actor; new for each incarnation
    pid: int  #: of the process that plays this actor
    random: Random

    def send(self, to: str, message: ActorMessage) -> None:
        """Send to an actor by name. May be lost, repeated or overtaken."""

    def remind(self, seconds: float, reminder: ActorMessage) -> None:
        """Send to oneself, not before so many seconds; cannot be cancelled."""

    def clock(self) -> float:
        """Seconds by a clock that all processes of this host share, and that no pause stops."""

    def create(self, name: str, role: str) -> None:
        """Start a child; it plays once it is told `Configure`. `ChildExited` tells its death."""

    def kill(self, name: str) -> None:
        """End a child's process at once (SIGKILL); `ChildExited` follows."""

    def exit(self) -> None:
        """End this actor once this message is handled."""

    def client(self, kind: str, settings: Any) -> Any:
        """The actor's client: of a connector's kind for a connection, "runner" for a handler,
        "journal" for a batcher."""


class Actor(Protocol):
    """A plain class that decides; made with its context, fed with messages."""

    def __init__(self, context: Context) -> None: ...

    def on(self, message: Any, sender: str, now: float) -> None:
        """Handle one message; `now` is monotonic, in seconds."""
