"""The view that a task has of the job it works on."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from actors.logic.jobs.job import Progress
from actors.logic.messages.entry import MAX_DELAY, check_seconds

if TYPE_CHECKING:
    from actors.usercode.watch import JobRun, Watch

META_MAX = 64 * 1024  #: bytes of a job's meta, as JSON


class JobContext:
    """The job that a task works on: a parameter of this type gets it, as does `current_job()`."""

    id: str  #: of the job
    task: str  #: its name
    queue: str
    attempt: int  #: 1 in the first run
    headers: Mapping[str, Any]  #: as the caller gave them
    meta: dict[str, Any]  #: kept with progress, retry, snooze and the end: the next run has it
    worker: str  #: HOST:PID
    log: logging.Logger

    def __init__(
        self,
        run: JobRun,
        watch: Watch,
        *,
        id: str,
        task: str,
        queue: str,
        attempt: int,
        headers: Mapping[str, Any],
        meta: dict[str, Any],
        worker: str,
        log: logging.Logger,
    ) -> None:
        self.id, self.task, self.queue, self.attempt = id, task, queue, attempt
        self.headers, self.meta, self.worker, self.log = headers, meta, worker, log
        self._run = run
        self._watch = watch
        self._progress, self._note = 0.0, ""
        self._first_meta = json.dumps(meta) if meta else ""

    @property
    def deadline(self) -> float:
        """Seconds that are left of the job's `timeout`."""
        return max(0.0, self._run.started + self._run.timeout - self._watch.now())

    @property
    def canceled(self) -> bool:
        """Whether the job is to end, by a stop or by its timeout: a long loop may look."""
        return bool(self._run.interrupted)

    def progress(self, progress: float, note: str = "") -> None:
        """Says how far the job is, from 0 to 1; stored at most four times a second, the last word
        always. Raises ValueError."""
        if not isinstance(progress, int | float) or not 0 <= progress <= 1:
            raise ValueError(f"progress must be between 0 and 1, not {progress!r}")
        self._progress, self._note = float(progress), str(note)
        self._run.progress = self.said()

    def retry(self, delay: float | None = None, reason: str = "") -> NoReturn:
        """Ends this run, and has another after `delay` seconds, by default as `retry` of the task
        says; after the last attempt the job has failed. Never returns."""
        if delay is not None:
            check_seconds("delay", delay, MAX_DELAY)
        raise RetryJob(delay, reason)

    def snooze(self, seconds: float) -> NoReturn:
        """Ends this run, and has another after so many seconds that counts no attempt. Never
        returns."""
        check_seconds("seconds", seconds, MAX_DELAY)
        raise SnoozeJob(float(seconds))

    def fail(self, reason: str) -> NoReturn:
        """The job has failed, and is not run again. Never returns."""
        raise FailJob(reason)

    def said(self) -> Progress:
        """Progress, note and meta as they are now. Raises ValueError where meta is no JSON."""
        try:
            meta = json.dumps(self.meta, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"job {self.id}: meta is no JSON: {error}") from None
        if len(meta) > META_MAX:
            raise ValueError(f"job {self.id}: meta is {len(meta):,} bytes, more than {META_MAX:,}")
        return Progress(self._progress, self._note, meta)

    @property
    def has_news(self) -> bool:
        """Whether progress or meta have changed in this run."""
        if self._run.progress is not None:
            return True
        if not self.meta:
            return bool(self._first_meta)
        try:
            return json.dumps(self.meta) != self._first_meta
        except (TypeError, ValueError, RecursionError):  # `said` explains
            return True


class JobSignal(BaseException):
    """The base of what ends a run from within. No `Exception`: what catches those lets it
    through."""


class RetryJob(JobSignal):
    """Another run is wanted."""

    def __init__(self, delay: float | None, reason: str) -> None:
        super().__init__(reason)
        self.delay = delay


class SnoozeJob(JobSignal):
    """Another run is wanted that counts no attempt."""

    def __init__(self, delay: float) -> None:
        super().__init__(delay)
        self.delay = delay


class FailJob(JobSignal):
    """The job has failed for good."""


#: The job that runs in this context.
running: ContextVar[JobContext | None] = ContextVar("running", default=None)


def current_job() -> JobContext:
    """The job that the caller works on. Raises RuntimeError outside of a task."""
    job = running.get()
    if job is None:
        raise RuntimeError("current_job() is called outside of a task")
    return job
