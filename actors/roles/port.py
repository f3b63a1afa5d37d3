"""The world, as a connection actor sees it: one port, three clients behind it.

Clients touch the world and decide nothing: what to acknowledge, when to reconnect
and what to give up is the connection's and its supervisor's to say.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from actors.logic.bulks.bulk import Fetched as Fetched
from actors.logic.jobs.job import Answer, Cancellation, Progress
from actors.logic.settlement.copying import Form, Refusal
from actors.logic.settlement.ledger import Flush
from actors.roles.context import Client


class Republish(NamedTuple):
    """Put a delivery elsewhere, durably; it is acknowledged only once that is confirmed."""

    token: int  #: comes back in `Republished` or `RepublishFailed`
    queue: str
    epoch: int
    position: int
    dead: bool  #: to `<queue>.dead`; otherwise back to `queue` after `delay`
    delay: float = 0.0  #: seconds
    attempts: int = 0  #: of the next hand-out; of a dead letter, all that there were
    route: str = ""
    error: str = ""  #: class of the exception
    reason: str = ""
    raw: bytes = b""  #: the delivery as it came
    form: Form = Form.WHOLE
    lacking: str = ""  #: why it is not made whole
    answer: Answer | None = None  #: of a job
    reply: bool = False  #: only its caller is answered: there is no copy


class ConnectionClient(Client, Protocol):
    """The operations that every connection to the world has.

    `epoch`s are given by the caller, never reused; positions count 1, 2, 3 … within
    an epoch, in order of arrival. An epoch ends with `QueueLost` or `Lost`;
    calls for an epoch that has ended are ignored.
    """

    def open(self) -> None:
        """Begin to connect; `Opened` or `Lost` follows."""

    def patience(self, queue: str) -> float:
        """Seconds for which the world lets a delivery of a queue be unsettled, as far as is
        known."""

    def consume(self, queue: str, epoch: int, window: int, alone: int = 0) -> None:
        """Fetch with at most `window` unsettled, or with `alone` where a window cannot be widened
        later; `Consuming` or `QueueLost` follows."""

    def widen(self, queue: str, epoch: int, window: int) -> None:
        """Fetch with at most `window` unsettled from now on, and no less than `consume` said;
        of a world whose patience has an end."""

    def cancel(self, queue: str, epoch: int) -> None:
        """Stop intake, keep what is unsettled; `Stopped` follows the last `Fetched`."""

    def resume(self, queue: str, epoch: int) -> None:
        """Fetch again after `cancel`, in the same epoch; `Consuming` or `QueueLost` follows."""

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        """Carry out a flush in one write."""

    def republish(self, request: Republish) -> None:
        """Begin to put a delivery elsewhere; `Republished` or `RepublishFailed` follows, unless
        its epoch ends. What it raises concerns this move alone."""

    def limit(self, queues: tuple[str, ...], most: int) -> None:
        """Hold at most so many unsettled of these queues together, from now on; in a window of
        each as before."""

    def begin(self, queue: str, epoch: int, positions: tuple[int, ...], worker: str) -> None:
        """These jobs have begun, at a worker named HOST:PID."""

    def report(self, queue: str, epoch: int, position: int, progress: Progress) -> None:
        """A job that goes on says how far it is."""

    def notify(self, request: bytes, worker: str, progress: Progress | None) -> None:
        """A caller that waits is to hear that its job has begun, and how far it is; `request` as
        `Answer` has it."""

    def conclude(self, queue: str, epoch: int, position: int, answer: Answer) -> None:
        """Store the end of a job's run in the transaction that settles its delivery; `settle`
        follows, in this turn or later."""

    def measure(self, queue: str) -> None:
        """Ask how many deliveries are ready; `Depth` follows."""

    def shut(self) -> None:
        """Close in order, all that was settled written; `Lost` with an empty cause follows."""


class Patient:
    """A world that waits for a settlement without end, so that no window is ever widened."""

    def patience(self, queue: str) -> float:
        """Without end."""
        return math.inf

    def widen(self, queue: str, epoch: int, window: int) -> None:
        """Nobody asks for it."""


class Jobless:
    """A world that keeps no jobs."""

    def limit(self, queues: tuple[str, ...], most: int) -> None:
        """Windows are all that there is."""

    def begin(self, queue: str, epoch: int, positions: tuple[int, ...], worker: str) -> None:
        """Nobody could look at it."""

    def report(self, queue: str, epoch: int, position: int, progress: Progress) -> None:
        """Nobody could look at it."""

    def notify(self, request: bytes, worker: str, progress: Progress | None) -> None:
        """Callers ask the store, where there is one."""

    def conclude(self, queue: str, epoch: int, position: int, answer: Answer) -> None:
        """The settlement says all that there is to say."""


# ── what clients report ────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Opened:
    """Connected; nothing is consumed yet."""

    peer: str = ""  #: for people: product and version


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone, or could not be made. All epochs have ended."""

    cause: str  #: empty after `shut`
    fault: str = "unreachable"  #: an `actors.errors.Fault`


@dataclass(frozen=True, slots=True)
class Consuming:
    queue: str
    epoch: int
    limit: int | None = None  #: returns of a message beyond which the world drops it; None: none
    fixed: int = 0  #: the window, where it cannot be widened; 0: it can be


@dataclass(frozen=True, slots=True)
class QueueLost:
    """The broker closed the channel or cancelled the consumer; its epoch has ended."""

    queue: str
    epoch: int
    cause: str
    fault: str = "unreachable"
    proven: bool = False  #: it had brought what it is there for: past failures no longer count


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """Deliveries that nobody can be given became dead letters where they lay."""

    queue: str
    epoch: int  #: 0 where the queue is not consumed
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody cancels a job whose delivery is unsettled; one that has begun is to end only where
    `stop` says so. It may be said again."""

    queue: str
    epoch: int
    position: int
    stop: bool


@dataclass(frozen=True, slots=True)
class Stopped:
    """Intake has ended as asked; deliveries of the epoch may still be settled."""

    queue: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Republished:
    token: int
    is_heard: bool = True  #: unless a caller was to be told, and is gone


@dataclass(frozen=True, slots=True)
class RepublishFailed:
    token: int
    cause: str
    refusal: Refusal = Refusal.AWAY


@dataclass(frozen=True, slots=True)
class Depth:
    """The number of deliveries that are ready to be fetched now, as far as the world tells."""

    queue: str
    ready: int
    jobs: tuple[tuple[str, int], ...] = ()  #: of a queue of jobs, how many by status


# ── the handler's side of the world: the user's code ───────────────────────────


@dataclass(frozen=True, slots=True)
class Started:
    """Hooks and `on_start` are done."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    cause: str


@dataclass(frozen=True, slots=True)
class Ended:
    """`on_stop` and the shutdown hooks are done."""

    cause: str = ""


class Code(Client, Protocol):
    """The user's code, off the actor's own thread where there is one."""

    def start(self) -> None:
        """Load it and run its hooks; `Started` or `StartFailed` follows."""

    def stop(self) -> None:
        """`on_stop` and the shutdown hooks; `Ended` follows."""


class Runner(Code, Protocol):
    """Runs the handlers of a pool."""

    def submit(self, bulk: Any) -> None:
        """Run each bulk of a `protocol.Bulk`; one `Settlement` for all that a turn finds done."""

    def lease(self, until: float) -> None:
        """Begin no bulk from then on, by the clock of the host, until there is a later word."""

    def recall(self, numbers: Collection[int]) -> None:
        """Begin none of these bulks; a `Settlement` returns each that was not begun before."""

    def cancel(self, jobs: Collection[Cancellation]) -> None:
        """Begin none of these; one that has begun and is to stop is ended within its grace."""

    def memory(self) -> int:
        """Bytes of memory that this process holds."""


class ClockRunner(Code, Protocol):
    """Runs the timers of an app, and its callbacks."""

    def connection_failed(self, connection: str, cause: str, fault: str, retries: int) -> None:
        """Tell the app, once it is loaded, in the order of these calls."""
