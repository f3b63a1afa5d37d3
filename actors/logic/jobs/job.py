"""A job: a message with an id and an outcome, and the table of what may become of it."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from math import inf
from typing import NamedTuple

from actors.logic.state_machine import Machine, Table

#: Runs of a job that are remembered.
RUNS_MAX = 10
#: Seconds for which the outcome of a call is kept, whatever its `result_ttl`.
OUTCOME_KEPT_S = 60.0


class Status(StrEnum):
    """The state of a job as users see it, in the words of RQ."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    CANCELED = "canceled"


class State(Enum):
    NEW = auto()
    SCHEDULED = auto()  #: not before its time
    QUEUED = auto()
    HELD = auto()  #: claimed by an owner, not begun
    STARTED = auto()
    FINISHED = auto()
    FAILED = auto()
    STOPPED = auto()
    CANCELED = auto()


class Event(Enum):
    SCHEDULE = auto()
    QUEUE = auto()
    RIPEN = auto()  #: its time has come
    CLAIM = auto()
    BEGIN = auto()
    FINISH = auto()
    RETRY = auto()
    SNOOZE = auto()
    FAIL = auto()
    STOP = auto()
    RELEASE = auto()  #: its owner drains or is dead
    CANCEL = auto()
    REDRIVE = auto()


_S, _E = State, Event
_WAITING = (_S.SCHEDULED, _S.QUEUED)
_IN_HAND = (_S.HELD, _S.STARTED)
_UNSUCCESSFUL = (_S.FAILED, _S.STOPPED, _S.CANCELED)

TABLE: Table[State, Event] = Table(
    "a job",
    State.NEW,
    {
        (_S.NEW, _E.SCHEDULE): _S.SCHEDULED,
        (_S.NEW, _E.QUEUE): _S.QUEUED,
        (_S.SCHEDULED, _E.RIPEN): _S.QUEUED,
        (_S.QUEUED, _E.CLAIM): _S.HELD,
        (_S.HELD, _E.BEGIN): _S.STARTED,
        **{(state, _E.FINISH): _S.FINISHED for state in _IN_HAND},
        **{(state, _E.RETRY): _S.SCHEDULED for state in _IN_HAND},
        **{(state, _E.SNOOZE): _S.SCHEDULED for state in _IN_HAND},
        # What waits fails where it expires before anybody begins it.
        **{(state, _E.FAIL): _S.FAILED for state in (*_WAITING, *_IN_HAND)},
        **{(state, _E.STOP): _S.STOPPED for state in _IN_HAND},
        **{(state, _E.RELEASE): _S.QUEUED for state in _IN_HAND},
        **{(state, _E.CANCEL): _S.CANCELED for state in (*_WAITING, _S.HELD)},
        **{(state, _E.REDRIVE): _S.QUEUED for state in _UNSUCCESSFUL},
    },
)

_STATUSES = {State.HELD: Status.QUEUED} | {
    State[status.name]: status for status in Status if status is not Status.QUEUED
}


class Until(StrEnum):
    """The end of a unique key, where it is no number of seconds."""

    ENDED = "ended"
    BEGUN = "begun"


class Conflict(StrEnum):
    """The fate of a job whose unique key is taken."""

    EXISTING = "existing"  #: the id of the job that has it is returned
    RAISE = "raise"
    REPLACE = "replace"  #: a job that waits gives way; one in hand stays


class UniqueKey(NamedTuple):
    """A key that one job has at a time."""

    key: str
    until: Until | float = Until.ENDED  #: seconds outlast the end of the job
    conflict: Conflict = Conflict.EXISTING


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be put. Seconds count from then, by the store's clock."""

    id: str
    task: str
    queue: str
    body: bytes  #: arguments, as JSON
    headers: bytes = b"{}"  #: as JSON
    priority: int = 0  #: higher first
    delay: float = 0.0  #: seconds before which it does not run
    at: float = -inf  #: the same as a time, in seconds since the epoch
    expires: float = inf  #: seconds within which it must have begun
    result_ttl: float = 500.0  #: seconds from its end; 0: nothing is stored
    failure_ttl: float = inf  #: the same where it failed or was stopped
    at_most_once: bool = False
    unique: UniqueKey | None = None
    description: str = ""
    meta: bytes = b"{}"  #: as JSON
    #: Somebody waits for the outcome: it is kept for `OUTCOME_KEPT_S` at the least.
    is_call: bool = False
    is_persistent: bool = True  #: stored on the disk before anybody hears of it
    #: Whether its task says that its queue takes priorities, or nobody knows.
    is_ranked: bool = True


class Run(NamedTuple):
    """One attempt, once it is over."""

    attempt: int
    worker: str
    begun: float | None
    ended: float
    error: str  #: empty: none


class Claimed(NamedTuple):
    """A job in an owner's hand. Its number fences whatever is said of it."""

    id: str
    owner: str
    number: int
    attempt: int
    body: bytes
    meta: bytes


class Progress(NamedTuple):
    """The word of a run that goes on."""

    progress: float  #: 0 to 1
    note: str
    meta: bytes  #: as JSON


class Answer(NamedTuple):
    """The end of a run, as its process tells it: travels with the settlement of the delivery."""

    outcome: bytes = b""  #: JSON: the result, or {"type", "message", "args", "traceback"}
    error: str = ""  #: the class of the exception; empty: none
    is_stopped: bool = False  #: somebody stopped it
    progress: Progress | None = None  #: the last word; None: as it was
    seconds: float = 0.0  #: that the run took
    worker: str = ""  #: HOST:PID
    #: Of a request whose sender waits for a reply, its AMQP properties as they came.
    request: bytes = b""


def killed(error: str, reason: str, *, is_stopping: bool) -> Answer:
    """The answer for a job whose process cannot give it: killed to stop the job, or at fault."""
    if is_stopping:
        error, reason = "TaskStopped", "stopped"
    outcome = {"type": error, "message": reason, "args": [], "traceback": ""}
    return Answer(json.dumps(outcome).encode(), error, is_stopping)


class Begun(NamedTuple):
    """A job at work, as its handler tells of it."""

    number: int  #: of its bulk
    epoch: int
    position: int
    left: float  #: seconds until its process is to be killed
    progress: Progress | None = None
    request: bytes = b""  #: as `Answer` has it, of a caller that wants to hear of the begin


class Cancellation(NamedTuple):
    """The wish that a job be canceled; one that has begun is to end only where `stop` says so."""

    epoch: int
    position: int
    stop: bool
    number: int = 0  #: of its bulk, to a handler


class Ending(Enum):
    """The ways in which a run ends."""

    FINISHED = auto()
    RETRY = auto()
    SNOOZE = auto()
    FAILED = auto()
    STOPPED = auto()


class Conclusion(NamedTuple):
    """The end of a run, as its owner tells it."""

    job: str
    owner: str
    number: int
    ending: Ending
    outcome: bytes = b""  #: the result, or what is known of the failure, as JSON
    error: str = ""
    delay: float = 0.0  #: seconds until the next run, of a retry or a snooze
    progress: Progress | None = None  #: the last word; None: as it was
    seconds: float = 0.0  #: that the run took
    worker: str = ""  #: HOST:PID, where nobody said before that it had begun


@dataclass(slots=True)
class Job:
    """A job in its store."""

    new: NewJob
    sequence: int
    created: float
    not_before: float
    expires: float  #: it must have begun by then
    attempt: int = 0
    owner: str = ""
    number: int = 0  #: of the last claim
    worker: str = ""
    begun: float | None = None
    ended: float | None = None
    outcome: bytes = b""
    error: str = ""
    meta: bytes = b"{}"
    progress: float = 0.0
    note: str = ""
    cancel_requested: bool = False
    stop_requested: bool = False
    keep_until: float = inf
    runs: deque[Run] = field(default_factory=lambda: deque(maxlen=RUNS_MAX))
    _machine: Machine[State, Event] = field(default_factory=lambda: Machine(TABLE), repr=False)

    @property
    def id(self) -> str:
        return self.new.id

    @property
    def state(self) -> State:
        return self._machine.state

    @property
    def status(self) -> Status:
        return _STATUSES.get(self.state, Status.QUEUED)

    @property
    def waits(self) -> bool:
        return self.state in _WAITING

    @property
    def in_hand(self) -> bool:
        return self.state in _IN_HAND

    @property
    def has_ended(self) -> bool:
        return self.state is State.FINISHED or self.state in _UNSUCCESSFUL

    @property
    def place(self) -> tuple[int, int]:
        """The order in which jobs of a queue are claimed."""
        return -self.new.priority, self.sequence

    def on_event(self, event: Event) -> None:
        self._machine.on_event(event)

    def is_of(self, owner: str, number: int) -> bool:
        """Whether a claim is the present one: whatever else is said of the job is stale."""
        return self.in_hand and (self.owner, self.number) == (owner, number)
