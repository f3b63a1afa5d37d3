"""The port of a job store, as callers and people use it, and the view of a job that it gives."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from actors.logic.jobs.job import NewJob, Run, Status

#: The header that names secret arguments, and what stands in their place.
SECRET = "x-callboard-secret"
MASK = "***"

#: Jobs before a queued one that are counted.
AHEAD_MAX = 1000

#: Ids of jobs, of whatever store: keys and names of files are made of them.
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def check_id(id: str) -> str:
    """The id, if it is one. Raises ValueError."""
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise ValueError(
            f"a job's id is 1 to 128 of the characters A-Z a-z 0-9 _ . and -, not {id!r}"
        )
    return id


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as its store knew it at one moment. Times are seconds since the epoch."""

    id: str
    task: str
    queue: str
    status: Status
    created: float
    not_before: float | None = None  #: of a scheduled job, the time from which on it may run
    begun: float | None = None  #: of the last run
    ended: float | None = None
    attempts: int = 0  #: runs so far, the present one included
    worker: str = ""  #: of the last run, as HOST:PID
    priority: int = 0
    description: str = ""
    progress: float = 0.0  #: 0 to 1
    note: str = ""  #: what the task said with its progress
    meta: dict[str, Any] = field(default_factory=dict)
    error: str = ""  #: the class of the exception; empty: none
    outcome: bytes = field(default=b"", repr=False)  #: JSON: the result, or the failure
    runs: tuple[Run, ...] = ()  #: the last ten
    cancel_requested: bool = False  #: by `cancel`, of a job in hand
    expires: float | None = None  #: it must have begun by then
    ahead: int | None = None  #: of a queued job, those that go before it; counted to 1,000
    #: As JSON, while the job may still run; without what its task calls secret.
    arguments: bytes = field(default=b"", repr=False)

    @property
    def news(self) -> tuple[object, ...]:
        """The part of it by which whoever waits for it tells that it has changed."""
        return (
            self.status,
            self.progress,
            self.note,
            self.attempts,
            self.begun,
            self.cancel_requested,
        )


def is_news(job: JobInfo | None, known: JobInfo | None) -> bool:
    """Whether a job has changed since it was seen last; None: there is none."""
    return (job and job.news) != (known and known.news)


def shown_arguments(body: bytes, headers: bytes) -> bytes:
    """The arguments of a job as people may see them."""
    try:
        secret = set(json.loads(headers or b"{}").get(SECRET, ()))
        if not secret:
            return body
        given = json.loads(body)
        if not isinstance(given, dict):
            return json.dumps(MASK).encode()
        return json.dumps({k: MASK if k in secret else v for k, v in given.items()}).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return b""  # whoever wrote it may have meant anything


class JobStore(Protocol):
    """The jobs of one connection, for callers, the command line and the test kit.

    Each call is one transition or one question, all of it or nothing. Every method may raise
    `UnreachableError` where the store cannot be used just now.
    """

    def put(self, jobs: Sequence[NewJob], timeout: float = 30.0) -> list[str]:
        """Stores all or none, durably; returns an id for each: its own, or that of the job that
        has its unique key. A job whose id exists already is not put again.

        Raises:
            JobConflict: a unique key is taken, and its job asked for this.
        """

    def get(self, id: str) -> JobInfo | None:
        """A job, all of it from one moment; None: there is none (any more)."""

    def look(self, ids: Collection[str]) -> dict[str, JobInfo]:
        """Those jobs of these that there are, without arguments and what is ahead of them."""

    def list(
        self,
        *,
        status: Status | None = None,
        task: str = "",
        queue: str = "",
        after: str = "",
        before: float | None = None,
        limit: int = 100,
    ) -> list[JobInfo]:
        """Jobs in the order in which they were put: after the one of an id, created before a
        time."""

    def count(self, queue: str = "") -> Counter[tuple[str, Status]]:
        """The number of jobs by queue and status."""

    def cancel(self, id: str, *, stop: bool = False) -> JobInfo | None:
        """Cancels what waits at once, and asks the owner of what it holds; returns the job as it
        is afterwards, with `cancel_requested` where its owner has to answer."""

    def redrive(self, id: str) -> bool:
        """Queues a job again that failed, was stopped or canceled, its attempts from 0.

        Raises:
            JobConflict: another job has its unique key meanwhile.
        """

    def delete(self, id: str) -> bool:
        """Forgets a job that has ended; False: there is none, or it goes on."""

    def pause(self, queue: str, seconds: float | None = None) -> None:
        """Hands out nothing of a queue, for so many seconds or until `resume`; what has begun goes
        on."""

    def resume(self, queue: str) -> None:
        """Hands out what a pause held back."""

    def paused(self) -> dict[str, float]:
        """When each pause ends, by queue; infinite: by `resume` only."""

    def wait(self, ids: Collection[str], timeout: float) -> None:
        """Returns once one of these jobs may have changed, or after so many seconds."""

    def wake(self) -> None:
        """Ends a `wait` of another thread."""

    def close(self) -> None:
        """Lets go of the store."""
