"""A job that was put: its handle, and what its outcome means to a caller."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from actors.errors import (
    ConfigurationError,
    ReplyLost,
    ResultExpired,
    TaskCanceled,
    TaskExpired,
    TaskFailed,
    TaskStopped,
    TaskTimeout,
    UnknownTask,
)
from actors.logic.jobs.job import Status
from actors.logic.jobs.jobs import EXPIRED
from actors.logic.jobs.store import JobInfo, JobStore, is_news
from actors.tasks.client import ENDED, JobClient

if TYPE_CHECKING:
    from actors.tasks.jobs import Jobs
    from actors.tasks.task import Declared

R = TypeVar("R")
T = TypeVar("T")

#: Seconds in which a job that was asked to be canceled says what became of that.
CANCEL_S = 1.0
#: Seconds between two looks at a job of which nothing is heard.
LOOK_S = 10.0


class Job(Generic[R]):
    """A job that was put: a handle, which knows its id alone and asks the store."""

    def __init__(self, jobs: Jobs, id: str, task: Declared | None, connection: str = "") -> None:
        self.id = id
        self._jobs = jobs
        self._task = task
        self._connection = connection

    async def info(self) -> JobInfo:
        """All that its store knows. Raises `ResultExpired` where it knows nothing (any more)."""
        return self._known(await self._ask(lambda store: store.get(self.id)))

    def info_sync(self) -> JobInfo:
        """`info` where there is no `await`."""
        return self._known(self._ask_sync(lambda store: store.get(self.id)))

    async def status(self) -> Status:
        """`scheduled`, `queued`, `started`, `finished`, `failed`, `stopped` or `canceled`."""
        return (await self.info()).status

    def status_sync(self) -> Status:
        """`status` where there is no `await`."""
        return self.info_sync().status

    async def result(self, wait: float = 0.0) -> R:
        """The result, for which it waits so many seconds. Raises as `Task.call` does, and
        `TaskTimeout` where the job has not ended by then, begun or not."""
        return self._result(await self.ended(_finite(wait)), wait)

    def result_sync(self, wait: float = 0.0) -> R:
        """`result` where there is no `await`."""
        return self._result(self.ended_sync(_finite(wait)), wait)

    async def cancel(self, *, stop: bool = False) -> Status:
        """Withdraws the job, and returns the status that it has then.

        What nobody has begun never begins. A job that runs goes on, unless `stop`: then it is
        ended within its `grace`, and not retried. One that has ended stays as it is.
        """
        job = await self._ask(lambda store: store.cancel(self.id, stop=stop))
        until = self._client.now() + CANCEL_S
        client = self._client
        while job and job.cancel_requested and (left := until - self._client.now()) > 0:
            job = await client.changed(self.id, job, left)
        return self._known(job).status

    def cancel_sync(self, *, stop: bool = False) -> Status:
        """`cancel` where there is no `await`."""
        job = self._ask_sync(lambda store: store.cancel(self.id, stop=stop))
        until = self._client.now() + CANCEL_S
        client = self._client
        while job and job.cancel_requested and (left := until - self._client.now()) > 0:
            job = client.changed_sync(self.id, job, left)
        return self._known(job).status

    async def retry(self) -> bool:
        """Queues it again, its attempts from 0, where it failed, was stopped or canceled."""
        return await self._ask(lambda store: store.redrive(self.id))

    def retry_sync(self) -> bool:
        """`retry` where there is no `await`."""
        return self._ask_sync(lambda store: store.redrive(self.id))

    async def delete(self) -> bool:
        """Forgets it, where it has ended."""
        return await self._ask(lambda store: store.delete(self.id))

    def delete_sync(self) -> bool:
        """`delete` where there is no `await`."""
        return self._ask_sync(lambda store: store.delete(self.id))

    async def events(self) -> AsyncIterator[JobInfo]:
        """What changes of it: status, progress, note. Ends with its end."""
        job = await self.info()
        yield job
        while job.status not in ENDED:
            changed = await self._client.changed(self.id, job, LOOK_S)
            if changed is None:
                return
            if is_news(changed, job):
                job = changed
                yield job

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    # ── small parts ───────────────────────────────────────────────────────────

    @property
    def _client(self) -> JobClient:
        return self._jobs.client(self._connection)

    async def _ask(self, ask: Callable[[JobStore], T]) -> T:
        return await self._client.run(ask)

    def _ask_sync(self, ask: Callable[[JobStore], T]) -> T:
        return self._client.run_sync(ask)

    def _known(self, job: JobInfo | None) -> JobInfo:
        if job is None:
            raise ResultExpired(
                f"there is no job {self.id}: its result was kept for result_ttl and is gone, or it"
                " was deleted",
                self.id,
            )
        return job

    async def ended(self, wait: float) -> JobInfo:
        """The job once it has ended, or after so many seconds."""
        until = self._client.now() + wait
        job = await self.info()
        while job.status not in ENDED and (left := until - self._client.now()) > 0:
            job = self._known(await self._client.changed(self.id, job, left))
        return job

    def ended_sync(self, wait: float) -> JobInfo:
        """`ended` where there is no `await`."""
        until = self._client.now() + wait
        job = self.info_sync()
        while job.status not in ENDED and (left := until - self._client.now()) > 0:
            job = self._known(self._client.changed_sync(self.id, job, left))
        return job

    def _result(self, job: JobInfo, wait: float) -> R:
        if job.status not in ENDED:
            raise TaskTimeout(
                f"job {job.id} of task {job.task} is {job.status.value}, and has not ended within"
                f" {wait:g} s",
                job.id,
            )
        return self.value_of(job)

    def value_of(self, job: JobInfo) -> R:
        """The result in what the store knows. Raises as `Task.call` does."""
        if job.status is Status.FINISHED:
            if not job.outcome:
                return None  # type: ignore[return-value]
            if self._task is None:
                return json.loads(job.outcome)  # type: ignore[no-any-return]
            return self._task.signature.result.validate_json(job.outcome)  # type: ignore[no-any-return]
        raise self._error(job)

    def _error(self, job: JobInfo) -> Exception:
        """What the call comes to that brought no result."""
        shown = f"job {job.id} of task {job.task}"
        match job.status:
            case Status.CANCELED:
                return TaskCanceled(f"{shown} was canceled", job.id)
            case Status.STOPPED:
                return TaskStopped(f"{shown} was stopped", job.id)
            case Status.STARTED:
                return TaskTimeout(f"{shown} has begun, and has not ended in time", job.id)
            case Status.FAILED if job.error == EXPIRED:
                return TaskExpired(f"{shown} was begun by nobody in time", job.id)
            case Status.FAILED:
                return self._failure(job)
        return TaskExpired(f"{shown} was begun by nobody in time", job.id)

    def _failure(self, job: JobInfo) -> Exception:
        try:
            told = json.loads(job.outcome or b"{}")
            kind, message = str(told.get("type") or job.error), str(told.get("message", ""))
            args, trace = tuple(told.get("args", ())), str(told.get("traceback", ""))
        except (ValueError, AttributeError, TypeError):
            kind, message, args, trace = job.error, "", (), ""
        name = kind.rpartition(".")[2]
        if name == "ReplyLost":
            return ReplyLost(message, job.id)
        if name == "UnknownTask":
            return UnknownTask(message, job.id)
        for listed in self._task.options.raises if self._task else ():
            if listed.__qualname__ == name or listed.__name__ == name:
                try:
                    return listed(*args)
                except Exception:  # made of other arguments than it keeps
                    break
        return TaskFailed(kind, message, args, trace, job.id)


def _finite(wait: float) -> float:
    if not isinstance(wait, int | float) or not 0 <= wait < math.inf:
        raise ConfigurationError(f"wait must be a number of seconds that ends, not {wait!r}")
    return float(wait)
