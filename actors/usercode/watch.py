"""The watch over the jobs of a process: it tells that they have begun, how far they are, and ends
those whose time is over."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from actors.errors import JobInterrupted
from actors.logic.jobs.job import Begun, Progress
from actors.roles.protocol import Began

#: Seconds after which a job that goes on is said to have begun, and between two looks.
LOOK_S = 0.05
#: Seconds between two words on a job's progress.
PROGRESS_S = 0.25
#: Seconds without a job after which the thread waits to be woken.
IDLE_S = 1.0
#: Seconds beyond its grace that the end of a job may take, before its process is killed.
SLACK_S = 0.2

_raise = ctypes.pythonapi.PyThreadState_SetAsyncExc


@dataclass(slots=True, eq=False)
class JobRun:
    """One job at work in this process."""

    number: int  #: of its bulk
    receipts: tuple[tuple[int, int], ...]  #: epoch and position; of a bulk task several
    timeout: float  #: seconds
    grace: float  #: seconds for which it may go on after that; 0: it is killed at once
    started: float
    thread: int = 0  #: in which a function runs
    task: asyncio.Task[Any] | None = None  #: in which a coroutine runs
    progress: Progress | None = None
    told: float = -inf  #: when its progress was told, or that it has begun
    said: Progress | None = None  #: the progress that was told
    requests: tuple[bytes, ...] = ()  #: of callers that want to hear of it, as receipts; or none
    interrupted: str = ""  #: "timeout" or "stop", once it was
    is_over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left(self) -> float:
        """Seconds that it may take in all, before its process is killed."""
        return self.timeout + self.grace + SLACK_S

    def interrupt(self, why: str, loop: asyncio.AbstractEventLoop) -> None:
        """End it from another thread: cancel the coroutine, or raise into the function."""
        with self.lock:
            if self.is_over or self.interrupted or (len(self.receipts) > 1 and why == "stop"):
                return  # neighbours in a bulk are not stopped with it
            if not (self.grace or why == "stop"):
                return
            self.interrupted = why
            if self.task is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self.task.cancel)
            elif self.thread:
                _raise(ctypes.c_ulong(self.thread), ctypes.py_object(JobInterrupted))

    def end(self) -> None:
        """In its own thread: nothing is raised into it any more. May raise JobInterrupted, and is
        then to be called again."""
        with self.lock:
            self.is_over = True
            if self.interrupted and self.thread:
                # What was set and not yet raised would befall whatever runs here next.
                _raise(ctypes.c_ulong(self.thread), None)


class Watch(Protocol):
    """Watches the jobs of one process."""

    lethal: tuple[type[BaseException], ...]  #: what stands for the death of the process

    def begin(self, run: JobRun) -> None:
        """A job begins, in its own thread or task."""

    def end(self, run: JobRun) -> None:
        """It is over."""

    def has(self, number: int) -> bool:
        """Whether a bulk is at work."""

    def stop(self, number: int) -> None:
        """Somebody stops it."""

    def now(self) -> float:
        """The clock of `JobRun.started`."""

    def wall(self) -> float:
        """The time of day, in seconds since the epoch."""

    def close(self) -> None:
        """Nothing is watched any more."""


class _Runs:
    """The jobs at work, and what is to be said of them."""

    def __init__(self, tell: Callable[[Any], None], loop: asyncio.AbstractEventLoop) -> None:
        self._tell = tell
        self._loop = loop
        self._runs: dict[int, JobRun] = {}
        self.lethal: tuple[type[BaseException], ...] = ()

    def end(self, run: JobRun) -> None:
        run.end()
        self._runs.pop(run.number, None)

    def has(self, number: int) -> bool:
        return number in self._runs

    def stop(self, number: int) -> None:
        if run := self._runs.get(number):
            run.interrupt("stop", self._loop)

    def _say(self, run: JobRun, now: float) -> None:
        """That it goes on, and how far it is, where that is news."""
        progress = run.progress
        is_news = progress is not run.said and now >= run.told + PROGRESS_S
        if run.is_over or not (run.told == -inf or is_news):
            return
        run.told, run.said = now, progress
        left = run.started + run.left - now
        requests = run.requests or (b"",) * len(run.receipts)
        jobs = [
            Begun(run.number, epoch, position, left, progress, request)
            for (epoch, position), request in zip(run.receipts, requests, strict=True)
        ]
        self._tell(Began(0, worker_name(), tuple(jobs)))


class ThreadWatch(_Runs):
    """A thread that looks at the jobs of the others: they may be busy with a function."""

    def __init__(self, tell: Callable[[Any], None], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(tell, loop)
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    def begin(self, run: JobRun) -> None:
        self._runs[run.number] = run
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="job watch", daemon=True)
            self._thread.start()
        if not self._bell.is_set():
            self._bell.set()

    def close(self) -> None:
        self._closed = True
        self._bell.set()

    def _look(self) -> None:
        idle = 0.0
        while not self._closed:
            now = time.monotonic()
            for run in list(self._runs.values()):
                if now >= run.started + LOOK_S:
                    self._say(run, now)
                if now >= run.started + run.timeout:
                    run.interrupt("timeout", self._loop)
            idle = 0.0 if self._runs else idle + LOOK_S
            if idle > IDLE_S:
                self._bell.clear()
                if not self._runs:  # none began meanwhile
                    self._bell.wait()
                idle = 0.0
            time.sleep(LOOK_S)


class LoopWatch(_Runs):
    """The same in virtual time, by the timers of a loop: functions take no time there."""

    def __init__(self, tell: Callable[[Any], None], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(tell, loop)
        self._timers: dict[int, list[asyncio.TimerHandle]] = {}

    def now(self) -> float:
        return self._loop.time()

    def wall(self) -> float:
        return self._loop.time()

    def begin(self, run: JobRun) -> None:
        self._runs[run.number] = run
        if run.task is not None:
            self._timers[run.number] = [
                self._loop.call_later(LOOK_S, self._look, run),
                self._loop.call_later(run.timeout, run.interrupt, "timeout", self._loop),
            ]

    def end(self, run: JobRun) -> None:
        super().end(run)
        for timer in self._timers.pop(run.number, ()):
            timer.cancel()

    def close(self) -> None:
        self._runs.clear()

    def _look(self, run: JobRun) -> None:
        self._say(run, self.now())
        if not run.is_over:
            timers = self._timers[run.number]
            timers[0] = self._loop.call_later(PROGRESS_S, self._look, run)


def worker_name() -> str:
    """This process, as people are shown it."""
    return f"{_HOST}:{os.getpid()}"


_HOST = socket.gethostname()
