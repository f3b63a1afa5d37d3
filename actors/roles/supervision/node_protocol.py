"""The messages between a joined host, the leader and its pipelines, in the order in which they
travel.

Each message tells a state, not a change: what is lost, repeated or overtaken is made good by
the next.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.logic.supervision.lease import Death
from actors.logic.supervision.placement import Offer
from actors.roles.protocol import ActorMessage

#: Seconds between two words of a host.
REPORT_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True, repr=False)
class NodeJoin(ActorMessage):
    """A host is here: from its supervisor to the leader, again and again."""

    host: str
    app: str
    version: str
    offers: tuple[Offer, ...]
    pid: int
    state: str = "running"  #: "draining" while its work moves away, "stopped" at last


@dataclass(frozen=True, slots=True, repr=False)
class NodeAccepted(ActorMessage):
    """The leader's answer: the pipelines that may have handlers on the host."""

    pipelines: tuple[str, ...] = ()
    refused: str = ""  #: why there are none
    leave: bool = False  #: the host is to be drained

    @property
    def introduces(self) -> tuple[str, ...]:
        return self.pipelines


@dataclass(frozen=True, slots=True, repr=False)
class NodeReport(ActorMessage):
    """A host offers itself to a pipeline, again and again, and says who of the pipeline lives
    there."""

    host: str
    offers: tuple[Offer, ...]
    leaving: bool
    asked: float  #: by the host's clock; the assignment in answer repeats it
    number: int  #: of the last assignment that it knows
    handlers: tuple[str, ...] = ()  #: that live
    deaths: tuple[Death, ...] = ()  #: of those that are on that assignment

    @property
    def introduces(self) -> tuple[str, ...]:
        return self.handlers


@dataclass(frozen=True, slots=True, repr=False)
class Assignment(ActorMessage):
    """The pipeline's answer: who is to live there. Its word holds for `logic.lease.LEASE`."""

    number: int  #: counts up with each change
    asked: float  #: the latest that it has heard
    handlers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class NodeLeave(ActorMessage):
    """Move a host's work away, and end it."""

    host: str


@dataclass(frozen=True, slots=True, repr=False)
class NodeLeaving(ActorMessage):
    """The answer: it is under way, or why it is not."""

    problem: str = ""
