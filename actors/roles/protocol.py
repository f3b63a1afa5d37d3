"""Every message between actors, in the order it travels; between hosts:
`actors.roles.supervision.node_protocol`.

Messages are frozen, slotted and made of bytes, numbers, strings and tuples of
them, so that each pickles small and means the same on both sides. Thespian
formats every message three times a hop for its own log: `__str__` is a constant.

Actors are named by strings; the stage knows what a name stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.logic.bulks.bulk import Piece, Report
from actors.logic.jobs.job import Begun, Cancellation
from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.settling import Range, Single
from actors.plan.plan import NodePlan, PipelinePlan, Plan

__all__ = [
    "ActorMessage",
    "AttemptFailed",
    "Began",
    "Begun",
    "Bulk",
    "Cancel",
    "Cancellation",
    "ChildExited",
    "Configure",
    "Connect",
    "ConnectionLost",
    "Deliveries",
    "Drain",
    "Drained",
    "Failed",
    "HandlerLost",
    "Leased",
    "Neighbours",
    "NotReady",
    "Outcome",
    "Outstanding",
    "Piece",
    "Range",
    "Ready",
    "Recalled",
    "Received",
    "Reminder",
    "Report",
    "ReportStatus",
    "Retire",
    "Retired",
    "Settlement",
    "Single",
    "Status",
]  # fmt: skip


class ActorMessage:
    """The base of all that travels: cheap to format, told apart by its class."""

    __slots__ = ()

    @property
    def introduces(self) -> tuple[str, ...]:
        """Names whose addresses travel along: who receives this can send to them."""
        return ()

    def __str__(self) -> str:
        return type(self).__name__

    __repr__ = __str__


# ── from a supervisor to its children ──────────────────────────────────────────


@dataclass(frozen=True, slots=True, repr=False)
class Configure(ActorMessage):
    """The first message of every actor: what it is to be."""

    plan: Plan | PipelinePlan | NodePlan
    role: str
    pool: str = ""  #: the routes that a handler serves, by the name of their pool
    supervisor: str = ""  #: the name to answer to
    node: bool = False  #: a handler on a joined host: it begins nothing without `Leased`
    leaders: tuple[str, ...] = ()  #: of a host that joins others: whom to ask, in this order


@dataclass(frozen=True, slots=True, repr=False)
class Leased(ActorMessage):
    """Your pipeline wants you until then: from a host supervisor to a handler on its host.

    What is not begun by then may have been handed out elsewhere. A moment, and no duration: a
    word that lay in a buffer while all was paused extends nothing.
    """

    until: float  #: by the clock of the host


@dataclass(frozen=True, slots=True, repr=False)
class Neighbours(ActorMessage):
    """The actors next to you; whoever is not named here is gone.

    An introduction that a later one overtook would bury the living.
    """

    connection: str = ""
    batcher: str = ""
    handlers: tuple[tuple[str, str], ...] = ()  #: (name, pool)
    number: int = 0  #: counts up; whoever has heard of a higher one ignores it
    retiring: tuple[str, ...] = ()  #: handlers that are to get no more; `Retired` follows
    waiting: tuple[str, ...] = ()  #: routes for which there is no host: nothing may be fetched

    @property
    def introduces(self) -> tuple[str, ...]:
        return (self.connection, self.batcher, *(name for name, _ in self.handlers))


@dataclass(frozen=True, slots=True, repr=False)
class Connect(ActorMessage):
    """Try to connect now; the supervisor's backoff is over."""

    attempt: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class ConnectionLost(ActorMessage):
    """The connection lost its peer, or did not find it."""

    cause: str
    fault: str  #: a value of `actors.errors.Fault`
    lived: float = 0.0  #: seconds for which it had consumed: proven health


@dataclass(frozen=True, slots=True, repr=False)
class AttemptFailed(ActorMessage):
    """A connection could not be made: from its pipeline to the clock, which calls the app back."""

    connection: str
    cause: str
    fault: str
    retries: int  #: counted from 1 in each outage


@dataclass(frozen=True, slots=True, repr=False)
class Ready(ActorMessage):
    """I am what I was told to be; a connection says it once it consumes."""

    role: str
    pid: int


@dataclass(frozen=True, slots=True, repr=False)
class NotReady(ActorMessage):
    """I cannot be what I was told to be just now, and why."""

    role: str
    pid: int
    cause: str
    fault: str = ""  #: of a connection that lost a queue: an `actors.errors.Fault`
    delay: float = 0.0  #: seconds until it tries again


# ── along the stream ───────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, repr=False)
class Deliveries(ActorMessage):
    """A chunk: all that one read of the world brought for one queue."""

    number: int  #: consecutive from 1 for each batcher: what is missing is missed
    open_from: int  #: every chunk below this number is settled for good
    incarnation: int  #: 64 random bits drawn by the connection actor at birth
    queue: str
    epoch: int  #: of the channel; never reused. A higher one ends the lower of its queue
    first: int  #: position of the first delivery; the others follow without a gap
    blob: bytes
    ends: bytes
    flagged: tuple[tuple[int, int], ...] = ()  #: (index, attempts before) of redeliveries
    spent: bool = False  #: the prefetch is spent: nothing more comes before a settlement
    limit: int | None = None  #: returns beyond which the world drops a message of this queue


@dataclass(frozen=True, slots=True, repr=False)
class Bulk(ActorMessage):
    """One or more bulks of one route, numbered from `number` on."""

    number: int
    open_from: int  #: every bulk below this number has its settlement confirmed
    route: str
    pieces: tuple[Piece, ...]
    sizes: tuple[int, ...]  #: deliveries in each bulk
    flagged: tuple[tuple[int, int], ...] = ()  #: (index over all bulks, attempts before)


@dataclass(frozen=True, slots=True, repr=False)
class Received(ActorMessage):
    """These bulks are here: a handler that does several at once has room for another message."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Settlement(ActorMessage):
    """The outcomes of deliveries: handler to batcher by bulk, batcher to connection by receipt.

    Settlements are sets: repeated, swapped or late ones change nothing twice.
    """

    incarnation: int
    numbers: tuple[int, ...]  #: the bulks that are answered in whole
    ranges: tuple[Range, ...]
    singles: tuple[Single, ...] = ()
    reports: tuple[Report, ...] = field(default=(), compare=False)  #: one of each route


@dataclass(frozen=True, slots=True, repr=False)
class Outstanding(ActorMessage):
    """The numbers that I hold open between us: what you miss, ask again; what I miss, send
    again."""

    numbers: tuple[int, ...]  #: a handler's: first those at work, in the order in which they came
    next: int = 0  #: the number that will be given next: below it nothing new appears
    #: a connection's: (epoch, last position) of what is to go back if no handler has begun it
    old: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Recalled(ActorMessage):
    """Begin none of these bulks, for they have waited too long: answer each by RETURN."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Began(ActorMessage):
    """Jobs are at work, and how far they are: handler to batcher, batcher to connection.

    Left out for jobs that are over at once. It may be said again.
    """

    incarnation: int
    worker: str  #: HOST:PID
    jobs: tuple[Begun, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Cancel(ActorMessage):
    """Somebody cancels jobs: connection to batcher, batcher to handler. Answered by RETURN where
    a job has not begun; the world says it again until there is an outcome."""

    incarnation: int
    jobs: tuple[Cancellation, ...]


@dataclass(frozen=True, slots=True, repr=False)
class HandlerLost(ActorMessage):
    """A handler's process is gone (to the batcher), or must go (to the supervisor)."""

    handler: str
    cause: str
    innocent: bool = False  #: its host is gone: nothing that it held is to blame


@dataclass(frozen=True, slots=True, repr=False)
class Retire(ActorMessage):
    """Replace this handler, once it has finished what it holds: to its pipeline, from whoever
    knows.

    The pipeline names it in `Neighbours.retiring`, and ends it once the batcher says `Retired`.
    """

    handler: str
    cause: str


@dataclass(frozen=True, slots=True, repr=False)
class Retired(ActorMessage):
    """A retiring handler holds nothing any more: from the batcher to the pipeline."""

    handler: str


# ── the end ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, repr=False)
class Drain(ActorMessage):
    """Finish what is in hand within so many seconds."""

    seconds: float
    chunk: int = 0  #: to a batcher: the last chunk that was sent to it


@dataclass(frozen=True, slots=True, repr=False)
class Drained(ActorMessage):
    """I have finished; unasked, from a connection in a burst: my queues are empty."""

    left: int = 0  #: deliveries that had to be left unsettled


@dataclass(frozen=True, slots=True, repr=False)
class Failed(ActorMessage):
    """I give up, and what the process should exit with."""

    code: int
    reason: str


# ── questions ──────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, repr=False)
class ReportStatus(ActorMessage):
    """Say how you are."""

    round: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Status(ActorMessage):
    """My state, as JSON of the shape that `callboard status --json` prints."""

    round: int
    report: str


# ── from the stage ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, repr=False)
class ChildExited(ActorMessage):
    """A child's process is gone: the stage has seen it dead. May come twice."""

    child: str
    cause: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Reminder(ActorMessage):
    """A word to oneself, later. A reminder of an older generation is stale and means nothing."""

    what: str
    generation: int = 0
