"""The way from callers to a job store: threads of each process, so that no event loop waits for a
disk or a network."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

from actors.api.connector import connector_of
from actors.errors import NotSupported, UnreachableError
from actors.logic.jobs.job import NewJob, Status
from actors.logic.jobs.store import JobInfo, JobStore, is_news

T = TypeVar("T")

ENDED = (Status.FINISHED, Status.FAILED, Status.STOPPED, Status.CANCELED)

#: Seconds between two looks where nobody rings, and between two tries of a store that is away.
LOOK_S = 1.0


class JobClient(Protocol):
    """A job store as callers reach it, with and without an event loop."""

    pid: int  #: of the process whose threads it has

    async def put(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        """Puts jobs as `JobStore.put` does."""

    def put_sync(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        """The same where there is no `await`."""

    async def run(self, ask: Callable[[JobStore], T]) -> T:
        """What a question to the store brings."""

    def run_sync(self, ask: Callable[[JobStore], T]) -> T:
        """The same where there is no `await`."""

    async def changed(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        """A job once it differs from what is known of it, or after so many seconds."""

    def changed_sync(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        """The same where there is no `await`."""

    def now(self) -> float:
        """The clock of its waits, in seconds."""

    def close(self) -> None:
        """Lets go of the store."""


class ThreadedClient:
    """One thread asks, and one waits for news of all jobs whose callers wait."""

    def __init__(self, kind: str, settings: str) -> None:
        self.pid = os.getpid()
        self._store: JobStore = connector_of(kind).load("jobs")(settings)
        self._asking = ThreadPoolExecutor(1, "callboard jobs")
        self._waiting: dict[Future[JobInfo | None], tuple[str, JobInfo | None]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    async def put(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        return await self.run(lambda store: store.put(jobs))

    def put_sync(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        return self._store.put(jobs)

    async def run(self, ask: Callable[[JobStore], T]) -> T:
        return await asyncio.wrap_future(self._asking.submit(ask, self._store))

    def run_sync(self, ask: Callable[[JobStore], T]) -> T:
        return ask(self._store)

    async def changed(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        future = self._watch(id, known)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            return await self.run(lambda store: store.look([id]).get(id))
        finally:
            self._forget(future)

    def changed_sync(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        future = self._watch(id, known)
        try:
            return future.result(timeout)
        except TimeoutError:
            return self._store.look([id]).get(id)
        finally:
            self._forget(future)

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for future in waiting:
            future.cancel()
        self._asking.shutdown()
        self._store.wake()
        if self._thread is not None:
            self._thread.join()
        self._store.close()

    # ── the thread that waits ─────────────────────────────────────────────────

    def _watch(self, id: str, known: JobInfo | None) -> Future[JobInfo | None]:
        future: Future[JobInfo | None] = Future()
        with self._lock:
            self._waiting[future] = (id, known)
            if self._thread is None:
                self._thread = threading.Thread(target=self._wait, name="job waiter", daemon=True)
                self._thread.start()
                return future
        self._store.wake()
        return future

    def _forget(self, future: Future[JobInfo | None]) -> None:
        with self._lock:
            self._waiting.pop(future, None)

    def _wait(self) -> None:
        while True:
            with self._lock:
                waiting = dict(self._waiting)
                if not waiting:
                    self._thread = None
                    return
            try:
                self._tell(waiting)
                self._store.wait({id for id, _ in waiting.values()}, LOOK_S)
            except UnreachableError:
                time.sleep(LOOK_S / 4)  # callers have time-outs of their own
            except Exception as error:  # whatever it is, whoever waits is to hear of it
                for future in waiting:
                    self._forget(future)
                    if not future.done():
                        future.set_exception(error)

    def _tell(self, waiting: dict[Future[JobInfo | None], tuple[str, JobInfo | None]]) -> None:
        found = self._store.look({id for id, _ in waiting.values()})
        for future, (id, known) in waiting.items():
            job = found.get(id)
            if is_news(job, known):
                self._forget(future)
                if not future.done():
                    future.set_result(job)


def open_client(kind: str, settings: str) -> JobClient:
    """The client of a connection. Raises `NotSupported` where tasks cannot stand on it."""
    connector = connector_of(kind)
    if connector.calls:
        return connector.load("calls")(settings)  # type: ignore[no-any-return]
    if not connector.jobs:
        raise NotSupported(
            f"a connection of kind {kind} takes no calls: tasks need spool: or amqp:"
        )
    return ThreadedClient(kind, settings)


#: Opens the client of a connection, by its kind and settings.
OpenClient = Callable[[str, str], JobClient]
