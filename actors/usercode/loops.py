"""Loops for user code: in a thread of its own, or on the caller's in virtual time.

Coroutines run on the loop. Functions run where no loop is running, so that they may run one of
their own: in threads, or on the loop's thread while the loop pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import selectors
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from actors.connectors.killswitch import KillSwitch, stay_awake
from actors.log import own_logger
from actors.usercode.watch import LoopWatch, ThreadWatch, Watch

NO_SOCKETS = (
    "the test kit plays in virtual time and waits for no socket and no program: give the handler a"
    " fake with state=, or test it with `callboard run --burst`"
)

#: To be awaited on the loop: calls a function, and returns what it returned and what it raised.
Call = Callable[..., Awaitable["CallResult"]]
CallResult = tuple[Any, BaseException | None]

logger = own_logger("actors.handler")


class Loop(Protocol):
    """An event loop that an actor's client drives, and what comes out of it."""

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop, soon."""

    def report(self, event: Any) -> None:
        """On the loop: hand an event to the owner."""

    def tell(self, event: Any) -> None:
        """From any thread: hand an event to the owner, whatever the loop is busy with."""

    @property
    def watch(self) -> Watch:
        """Watches the jobs that run on it."""

    def caller(self, threads: int) -> Call:
        """How functions are called: in so many threads; 0: on the loop's, while it pauses."""

    def fileno(self) -> int: ...

    def deadline(self) -> float | None: ...

    def turn(self, now: float) -> list[Any]:
        """By the owner: everything reported since the last turn, in order."""

    def close(self) -> None: ...


class ThreadLoop:
    """The loop has a thread of its own, so that its owner stays answerable.

    No signal is masked in it: Linux gives signals of a process to its main thread while
    that one takes them, and a mask would be inherited by what user code starts, which then
    could not be terminated.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._pauses = Pauses(self._loop)
        self._executors: list[ThreadPoolExecutor] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._events: deque[Any] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._told = False  # a pass of the loop has something to report
        self._rung = False
        self._bell, self._clapper = os.pipe()
        for end in (self._bell, self._clapper):
            os.set_blocking(end, False)
        self.watch: Watch = ThreadWatch(self.tell, self._loop)

    def post(self, function: Callable[..., object], *args: Any) -> None:
        if not self._closed:
            if not self._thread.ident:
                self._thread.start()
            self._loop.call_soon_threadsafe(function, *args)

    def report(self, event: Any) -> None:
        self._events.append(event)
        if not self._told:  # once for all that a pass of the loop finds done
            self._told = True
            self._loop.call_soon(self._ring)

    def tell(self, event: Any) -> None:
        self._events.append(event)
        self._ring()

    def _ring(self) -> None:
        self._told = False
        with self._lock:  # a descriptor that was closed may already be somebody else's
            if not (self._closed or self._rung):
                self._rung = True
                with contextlib.suppress(BlockingIOError):  # full: it is readable anyway
                    os.write(self._clapper, b"\0")

    def caller(self, threads: int) -> Call:
        if not threads:
            return self._pauses.call
        executor = ThreadPoolExecutor(threads, self._thread.name)
        self._executors.append(executor)
        return partial(self._call_in, executor)

    async def _call_in(
        self, executor: ThreadPoolExecutor, function: Callable[..., Any], *args: Any
    ) -> CallResult:
        run = contextvars.copy_context().run
        return await self._loop.run_in_executor(executor, run, _outcome, function, *args)

    def fileno(self) -> int:
        return self._bell

    def deadline(self) -> float | None:
        return None

    def turn(self, now: float) -> list[Any]:
        if not self._closed:
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, 16)
            self._rung = False  # before what is there is looked at
        return [self._events.popleft() for _ in range(len(self._events))]

    def close(self) -> None:
        """Ends the loop; waits a second at most for user code that does not let go of it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.watch.close()
            os.close(self._bell)
            os.close(self._clapper)
        if not self._thread.ident:
            self._loop.close()
        else:
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(1.0)
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        switch = KillSwitch(self._thread.name)
        stay_awake(self._loop)
        while not self._closed:
            try:
                self._loop.run_forever()
            except BaseException as error:  # SystemExit of a task of the user's
                switch.failed(error)
                logger.exception("a task of the user's code ended the event loop; it goes on")
            if not self._closed:
                self._pauses.use()
        finish(self._loop)


class InlineLoop:
    """The loop runs on its owner's thread while it is turned, and in virtual time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._loop = VirtualLoop(clock)
        self._clock = clock
        self._events: list[Any] = []
        self.watch: Watch = LoopWatch(self.report, self._loop)

    def post(self, function: Callable[..., object], *args: Any) -> None:
        self._loop.call_soon(function, *args)
        self._loop.due = self._clock()

    def report(self, event: Any) -> None:
        self._events.append(event)

    def tell(self, event: Any) -> None:
        self._events.append(event)

    def caller(self, threads: int) -> Call:
        return self._loop.pauses.call

    def fileno(self) -> int:
        return -1

    def deadline(self) -> float | None:
        return self._loop.due

    def turn(self, now: float) -> list[Any]:
        with _alone():
            while not self._loop.is_closed():
                try:
                    self._loop.run_forever()
                except SystemExit:  # as in a thread; a Ctrl-C on the test's own is let through
                    logger.exception("a task of the user's code ended the event loop; it goes on")
                    continue
                if not self._loop.pauses.use():
                    break
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        if not self._loop.is_closed():
            with _alone():
                finish(self._loop)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """A thread as it is where no event loop runs: that of an async test is out of sight."""
    running = asyncio._get_running_loop()
    if running is None:
        yield
        return
    if task := asyncio.current_task(running):
        asyncio.tasks._leave_task(running, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(running)
        if task:
            asyncio.tasks._enter_task(running, task)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`run_forever` runs what is ready and returns; `due` says when more will be."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.due: float | None = None
        self._is_made = False
        super().__init__(_StillSelector(self._idle))
        self._is_made = True
        self.pauses = Pauses(self)

    def time(self) -> float:
        return self._clock()

    def run_in_executor(  # type: ignore[override]  # its types say no more, at greater length
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Inline: threads would bring back the real time, and an order of their own."""
        future: asyncio.Future[Any] = self.create_future()

        def tell(called: asyncio.Future[CallResult]) -> None:
            result, error = called.result()
            if isinstance(error, StopIteration):  # a future refuses to carry it
                error = RuntimeError(f"the function raised {error!r}")
            if future.done():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.pauses.begin(func, *args).add_done_callback(tell)
        return future

    # Whatever waits for a socket or a pipe ends in one of these.

    def _add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
        if self._is_made:
            raise RuntimeError(NO_SOCKETS)
        return super()._add_reader(fd, callback, *args)  # type: ignore[misc]

    def _add_writer(self, fd: Any, callback: Any, *args: Any) -> Any:
        raise RuntimeError(NO_SOCKETS)

    async def _make_subprocess_transport(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError(NO_SOCKETS)

    def _idle(self, timeout: float | None) -> None:
        self.due = None if timeout is None else self.time() + timeout
        self.stop()


class _StillSelector(selectors.DefaultSelector):
    """Tells that it would have to wait, instead of waiting."""

    def __init__(self, idle: Callable[[float | None], None]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self._idle(timeout)
        return ready


class Pauses:
    """Calls of functions on the thread of a loop, while that loop pauses.

    To the function no loop is running there, and `asyncio.run` works. A thread beside the loop
    would do as well, at five times the price.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[asyncio.Future[CallResult], Callable[[], CallResult]]] = deque()

    async def call(self, function: Callable[..., Any], *args: Any) -> CallResult:
        """On the loop: have it called in the next pause."""
        return await self.begin(function, *args)

    def begin(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[CallResult]:
        """… and do not wait for it."""
        done: asyncio.Future[CallResult] = self._loop.create_future()
        run = contextvars.copy_context().run
        self._waiting.append((done, partial(run, _outcome, function, *args)))
        self._loop.stop()
        return done

    def use(self) -> bool:
        """On the loop's thread, while the loop does not run: make the calls that wait.
        False: there was none."""
        used = bool(self._waiting)
        while self._waiting:
            done, called = self._waiting.popleft()
            if not done.cancelled():
                done.set_result(called())
        return used


def _outcome(function: Callable[..., Any], *args: Any) -> CallResult:
    # A future refuses to carry a StopIteration, and would never be done.
    try:
        return function(*args), None
    except BaseException as error:
        return None, error


def finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what still runs on a loop, and close it; waits for nothing."""
    with contextlib.suppress(BaseException):
        for _ in range(10):  # a cancelled task unwinds within a few steps, or it clings to life
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
