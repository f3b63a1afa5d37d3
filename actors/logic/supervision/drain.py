"""Drains: a connection's and a pipeline's, as tables, and the deadline that they share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from actors.logic.state_machine import Table

#: Seconds of a drain that a supervisor keeps for itself after its children's deadline.
MARGIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment by which a drain ends, on the clock of one process.

    Only the seconds that are left travel between processes. A supervisor's children end two
    margins before it does: one for their last words, one to kill those that said none.
    """

    at: float

    def left(self, now: float) -> float:
        return max(0.0, self.at - now)

    def has_passed(self, now: float) -> bool:
        return now >= self.at

    def left_for_children(self, now: float) -> float:
        return max(MARGIN_S, self.at - now - 2 * MARGIN_S)


class Phase(Enum):
    """The drain of a connection."""

    RUNNING = auto()
    CANCELLED = auto()  #: nothing more is asked for; what is under way still comes
    FLUSHED = auto()  #: nothing more comes; the batcher finishes what came
    RELEASED = auto()  #: all has its outcome; what was held goes back, copies are confirmed
    SHUTTING = auto()  #: what is settled is written, and the peer hears the goodbye
    CLOSED = auto()


class Event(Enum):
    DRAIN = auto()
    ALL_STOPPED = auto()
    ALL_DECIDED = auto()
    ALL_COPIED = auto()
    DEADLINE = auto()
    WRITTEN = auto()


TABLE: Table[Phase, Event] = Table(
    "the drain of a connection",
    Phase.RUNNING,
    {
        (Phase.RUNNING, Event.DRAIN): Phase.CANCELLED,
        (Phase.CANCELLED, Event.ALL_STOPPED): Phase.FLUSHED,
        (Phase.FLUSHED, Event.ALL_DECIDED): Phase.RELEASED,
        (Phase.RELEASED, Event.ALL_COPIED): Phase.SHUTTING,
        (Phase.CANCELLED, Event.DEADLINE): Phase.SHUTTING,
        (Phase.FLUSHED, Event.DEADLINE): Phase.SHUTTING,
        (Phase.RELEASED, Event.DEADLINE): Phase.SHUTTING,
        (Phase.SHUTTING, Event.WRITTEN): Phase.CLOSED,
    },
)


class PipelinePhase(Enum):
    """The drain of a pipeline, as its supervisor sees it."""

    RUNNING = auto()
    CONNECTION_DRAINS = auto()  #: it has batcher and handlers finish
    HANDLERS_END = auto()  #: they hold nothing any more
    CLOSED = auto()  #: whoever is left is killed


class PipelineEvent(Enum):
    DRAIN = auto()
    CONNECTION_DRAINED = auto()  #: or there is none
    HANDLERS_ENDED = auto()
    FELL = auto()  #: connection or batcher died
    DEADLINE = auto()


PIPELINE_TABLE: Table[PipelinePhase, PipelineEvent] = Table(
    "the drain of a pipeline",
    PipelinePhase.RUNNING,
    {
        (PipelinePhase.RUNNING, PipelineEvent.DRAIN): PipelinePhase.CONNECTION_DRAINS,
        (
            PipelinePhase.CONNECTION_DRAINS,
            PipelineEvent.CONNECTION_DRAINED,
        ): PipelinePhase.HANDLERS_END,
        (PipelinePhase.HANDLERS_END, PipelineEvent.HANDLERS_ENDED): PipelinePhase.CLOSED,
        (PipelinePhase.CONNECTION_DRAINS, PipelineEvent.FELL): PipelinePhase.CLOSED,
        (PipelinePhase.HANDLERS_END, PipelineEvent.FELL): PipelinePhase.CLOSED,
        (PipelinePhase.CONNECTION_DRAINS, PipelineEvent.DEADLINE): PipelinePhase.CLOSED,
        (PipelinePhase.HANDLERS_END, PipelineEvent.DEADLINE): PipelinePhase.CLOSED,
    },
)
