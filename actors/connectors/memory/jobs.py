"""The jobs of the world in memory, as callers use them, and the way there on a loop in virtual
time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

from actors.connectors.memory.world import World
from actors.logic.jobs.job import Job, NewJob, State, Status
from actors.logic.jobs.store import AHEAD_MAX, JobInfo, JobStore, is_news, shown_arguments

T = TypeVar("T")

#: Seconds of virtual time between two looks at a job that somebody waits for.
LOOK_S = 0.01


class WorldJobs:
    """An `actors.logic.jobs.store.JobStore` in memory: the model itself."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def _now(self) -> float:
        return self._world.clock()

    def put(self, jobs: Sequence[NewJob], timeout: float = 30.0) -> list[str]:
        return self._world.jobs.put(jobs, self._now)

    def get(self, id: str) -> JobInfo | None:
        job = self._world.jobs.get(id, self._now)
        if job is None:
            return None
        ahead = self._world.jobs.ahead(job)
        return replace(info_of(job), ahead=None if ahead is None else min(ahead, AHEAD_MAX))

    def look(self, ids: Collection[str]) -> dict[str, JobInfo]:
        found = (self._world.jobs.get(id, self._now) for id in ids)
        return {job.id: info_of(job) for job in found if job is not None}

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
        found = self._world.jobs.list(
            self._now, status=status, task=task, queue=queue, limit=1 << 30
        )
        first = next((n for n, job in enumerate(found, 1) if job.id == after), 0)
        chosen = [job for job in found[first:] if before is None or job.created < before]
        return [info_of(job) for job in chosen[:limit]]

    def count(self, queue: str = "") -> Counter[tuple[str, Status]]:
        counted = self._world.jobs.count(self._now)
        return Counter({key: n for key, n in counted.items() if queue in ("", key[0])})

    def cancel(self, id: str, *, stop: bool = False) -> JobInfo | None:
        job = self._world.jobs.cancel(id, self._now, stop=stop)
        return None if job is None else info_of(job)

    def redrive(self, id: str) -> bool:
        return self._world.jobs.redrive(id, self._now)

    def delete(self, id: str) -> bool:
        return self._world.jobs.delete(id)

    def pause(self, queue: str, seconds: float | None = None) -> None:
        self._world.jobs.pause(queue, float("inf") if seconds is None else self._now + seconds)

    def resume(self, queue: str) -> None:
        self._world.jobs.resume(queue)

    def paused(self) -> dict[str, float]:
        return self._world.jobs.paused(self._now)

    def wait(self, ids: Collection[str], timeout: float) -> None:
        """Nobody waits here: time is virtual."""

    def wake(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """There is nothing to let go of."""


class InlineClient:
    """An `actors.tasks.client.JobClient` in virtual time."""

    def __init__(self, world: World, pid: int) -> None:
        self.pid = pid
        self._store: JobStore = WorldJobs(world)
        self.now = world.clock

    async def put(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        return self._store.put(jobs)

    def put_sync(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        return self._store.put(jobs)

    async def run(self, ask: Callable[[JobStore], T]) -> T:
        return ask(self._store)

    def run_sync(self, ask: Callable[[JobStore], T]) -> T:
        return ask(self._store)

    async def changed(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while not is_news(job := self._store.look([id]).get(id), known) and loop.time() < until:
            await asyncio.sleep(LOOK_S)
        return job

    def changed_sync(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        job = self._store.look([id]).get(id)
        if not is_news(job, known):
            raise RuntimeError(
                "a function waits for a job in virtual time, which stands still meanwhile: make it"
                " `async def` and await the call, or use system.call in the test"
            )
        return job

    def close(self) -> None:
        """There is nothing to let go of."""


def info_of(job: Job) -> JobInfo:
    """A job of the model as people see it."""
    return JobInfo(
        id=job.id,
        task=job.new.task,
        queue=job.new.queue,
        status=job.status,
        created=job.created,
        not_before=job.not_before if job.state is State.SCHEDULED else None,
        begun=job.begun,
        ended=job.ended,
        attempts=job.attempt,
        worker=job.worker,
        priority=job.new.priority,
        description=job.new.description,
        progress=job.progress,
        note=job.note,
        meta=json.loads(job.meta),
        error=job.error,
        outcome=job.outcome,
        runs=tuple(job.runs),
        arguments=b""
        if job.status is Status.FINISHED
        else shown_arguments(job.new.body, job.new.headers),
        cancel_requested=job.cancel_requested or job.stop_requested,
        expires=None if job.expires == float("inf") else job.expires,
    )
