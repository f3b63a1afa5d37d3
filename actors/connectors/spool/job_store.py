"""The jobs of a spool as callers, people and the command line use them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from sqlite3 import Connection
from threading import Lock
from typing import TypeVar
from weakref import WeakSet

from actors.connectors.spool import jobs as rows
from actors.connectors.spool.file import SpoolFile
from actors.logic.jobs.job import NewJob, Status
from actors.logic.jobs.store import JobInfo

T = TypeVar("T")

READ_TIMEOUT_S = 5.0  #: seconds to wait for the file's lock
WAITERS_MAX = 8  #: of one job; of more the last are rung, the others look by themselves


class SpoolJobs:
    """An `actors.logic.jobs.store.JobStore` of one spool file. Safe for threads and over a fork.

    Whoever waits has a FIFO beside the file, named in the rows of the jobs that it waits for, and
    is rung by the commit that changes one of them.
    """

    def __init__(self, settings: str) -> None:
        """`settings` as `PipelinePlan.settings` has them."""
        path = Path(json.loads(settings)["path"])
        self._file = SpoolFile(path)
        self._quick = SpoolFile(path, durable=False)  # for what need not survive a power cut
        self._lock = Lock()
        self._name, self._fileno = "", -1  # of the FIFO, once somebody waits
        self._known: set[str] = set()  # jobs whose rows name it
        _stores.add(self)

    def __str__(self) -> str:
        return f"spool://{self._file.path}"

    # ── the port ──────────────────────────────────────────────────────────────

    def put(self, jobs: Sequence[NewJob], timeout: float = 30.0) -> list[str]:
        for job in jobs:
            rows.check(job)
        waiter = self._waiter() if any(job.is_call for job in jobs) else ""
        file = self._file if any(job.is_persistent for job in jobs) else self._quick
        with file.transaction(timeout) as at:
            ids = rows.put(at, jobs, waiter)
        if waiter:
            self._known.update(job.id for job in jobs if job.is_call)
        self._file.wake()
        return ids

    def get(self, id: str) -> JobInfo | None:
        return self._read(lambda at: rows.get(at, id))

    def look(self, ids: Collection[str]) -> dict[str, JobInfo]:
        return self._read(lambda at: rows.look(at, ids))

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
        return self._read(
            lambda at: rows.listed(
                at, status=status, task=task, queue=queue, after=after, before=before, limit=limit
            )
        )

    def count(self, queue: str = "") -> Counter[tuple[str, Status]]:
        return self._read(lambda at: rows.counted(at, queue))

    def cancel(self, id: str, *, stop: bool = False) -> JobInfo | None:
        with self._file.transaction(READ_TIMEOUT_S) as at:
            told = rows.sweep(at, time.time())
            owner = rows.cancel(at, id, stop=stop)
            job = rows.get(at, id)
            told |= _waiters(at, job)
        if owner:
            with contextlib.suppress(OSError):
                self._file.owners.ring_one(owner)
        self._ring(told)
        return job

    def redrive(self, id: str) -> bool:
        with self._file.transaction(READ_TIMEOUT_S) as at:
            is_again = rows.redrive(at, id)
        self._file.wake()
        return is_again

    def delete(self, id: str) -> bool:
        with self._file.transaction(READ_TIMEOUT_S) as at:
            told = _waiters(at, rows.get(at, id))
            is_gone = rows.delete(at, id)
        self._ring(told)
        return is_gone

    def pause(self, queue: str, seconds: float | None = None) -> None:
        until = math.inf if seconds is None else time.time() + seconds
        with self._file.transaction(READ_TIMEOUT_S) as at:
            rows.pause(at, queue, until)
        self._file.wake()

    def resume(self, queue: str) -> None:
        with self._file.transaction(READ_TIMEOUT_S) as at:
            rows.resume(at, queue)
        self._file.wake()

    def paused(self) -> dict[str, float]:
        with self._file.reading() as at:
            return rows.paused(at)

    def wait(self, ids: Collection[str], timeout: float) -> None:
        waiter = self._waiter()
        if new := set(ids) - self._known:
            with self._file.transaction(READ_TIMEOUT_S) as at:
                rows.await_change(at, new, waiter, WAITERS_MAX)
            self._known = set(ids)
            return  # one may have changed before its row named the FIFO
        self._known = set(ids)
        ready, _, _ = select.select([self._fileno], [], [], max(0.0, timeout))
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._fileno, 65536)

    def wake(self) -> None:
        self._ring({self._waiter()})

    def close(self) -> None:
        with self._lock:
            if self._name:
                with contextlib.suppress(OSError):
                    self._file.waiters.remove(self._name)
            self.abandon()
        self._file.close()
        self._quick.close()

    # ── small parts ───────────────────────────────────────────────────────────

    def _read(self, ask: Callable[[Connection], T]) -> T:
        """Asks once nothing is there that has expired or was kept long enough."""
        with self._file.reading() as at:
            if not rows.is_sweep_due(at):
                return ask(at)
        with self._file.transaction(READ_TIMEOUT_S) as at:
            told = rows.sweep(at, time.time())
            answer = ask(at)
        self._ring(told)
        return answer

    def _waiter(self) -> str:
        """The name of the FIFO, which is made when it is first asked for."""
        with self._lock:
            if not self._name:
                fifos = self._file.waiters
                self._name, self._fileno = fifos.create()
                for name in fifos.names() - {self._name}:
                    with fifos.dead(name) as is_dead:
                        if is_dead:
                            fifos.remove(name)
            return self._name

    def _ring(self, names: Collection[str]) -> None:
        ring(self._file, names)

    def abandon(self) -> None:
        """In a forked child: the FIFO is the parent's."""
        if self._fileno >= 0:
            os.close(self._fileno)
        self._name, self._fileno, self._known = "", -1, set()


def ring(file: SpoolFile, names: Collection[str]) -> None:
    """Wake who waits for news of jobs; who is gone is not missed."""
    for name in names:
        with contextlib.suppress(OSError):
            file.waiters.ring_one(name)


def _waiters(at: Connection, job: JobInfo | None) -> set[str]:
    if job is None:
        return set()
    (seq,) = at.execute("SELECT seq FROM job WHERE id = ?", (job.id,)).fetchone()
    return rows.waiters(at, [seq])


# A lock outlives its process in whoever inherited the descriptor.
_stores: WeakSet[SpoolJobs] = WeakSet()


def _after_fork() -> None:
    for store in _stores:
        store._lock = Lock()
        store.abandon()


os.register_at_fork(after_in_child=_after_fork)
