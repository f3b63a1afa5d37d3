"""The user's code that the clock runs: timers, and callbacks for connections that fail.

One replica of all runs a singleton timer: the one that holds an exclusive queue of a broker, or
the lock of a file. Both are released when their holder dies, whatever it dies of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from actors.api.connector import connectors
from actors.connectors.spool.lock import FileLock
from actors.errors import ConfigurationError, Fault, UnreachableError
from actors.logic.settlement.failure import class_name, describe
from actors.plan.plan import Plan
from actors.usercode.app import STOP_SECONDS, AppCode, called, log_failure
from actors.usercode.loops import Call

if TYPE_CHECKING:
    from actors.api.app import App, Timer

#: Seconds between two looks at a lock that is not known yet.
LOCK_CHECK_S = 0.1
#: Seconds until a lock that could not be opened is tried again.
AGAIN = 5.0


class Lock(Protocol):
    """A lock that one of all replicas holds."""

    def held(self) -> bool | None:
        """Whether we do; None while that is not known."""

    def close(self) -> None: ...


class TimerCode(AppCode):
    """The timers of the app, and its callbacks."""

    def __init__(
        self,
        load: Callable[[], App],
        call: Call,
        beside: Call,
        hooks: bool = True,
        locks: Callable[[str], Lock] | None = None,
    ) -> None:
        """`beside` is how functions are called that may last. `locks` opens the lock of a name;
        without it, this process is the only one."""
        super().__init__(load, call, hooks)
        self._beside = beside
        self._tickers: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._open_lock = locks
        self._locks: list[Lock] = []
        self._loaded = asyncio.Event()
        self._calling = asyncio.Lock()

    async def start(self) -> None:
        """… and start the timers, each with its first run at once."""
        await super().start()
        self._loaded.set()
        self._tickers = [asyncio.ensure_future(self._tick(timer)) for timer in self.app.timers]

    async def stop(self) -> str:
        """No more ticks; runs in hand may end; then the shutdown hooks."""
        for ticker in self._tickers:
            ticker.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=STOP_SECONDS)
        for lock in self._locks:
            lock.close()
        return await super().stop()

    async def connection_failed(
        self, connection: str, cause: str, fault: str, retries: int
    ) -> None:
        """Call the app back, one failure after the other."""
        kind = UnreachableError if fault == Fault.UNREACHABLE else ConfigurationError
        await self._loaded.wait()
        async with self._calling:
            for callback in self.app.fail_callbacks(connection):
                await self._logged("connection_fail_callback", callback, kind(cause), retries)

    async def _tick(self, timer: Timer) -> None:
        lock = await self._lock(timer) if timer.options.singleton else None
        clock = asyncio.get_running_loop().time
        start, tick = clock(), 0
        running: set[asyncio.Task[None]] = set()
        while True:
            free = len(running) < timer.options.max_concurrency
            if free and (lock is None or _holds(lock, timer)):
                task = asyncio.ensure_future(self._once(timer))
                for tasks in (running, self._running):
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            late = int((clock() - start) / timer.seconds)
            tick = max(tick, late) + 1  # ticks that are over are skipped
            await asyncio.sleep(start + tick * timer.seconds - clock())

    async def _lock(self, timer: Timer) -> Lock | None:
        """The lock of a timer, once it is known who holds it."""
        if self._open_lock is None:
            return None
        name = f"{timer.handler.__module__}.{_name(timer.handler)}"
        while True:
            try:
                lock = self._open_lock(name)
                break
            except Exception as error:
                _log_lock(timer, error)
                await asyncio.sleep(AGAIN)
        self._locks.append(lock)
        while _holds(lock, timer) is None:
            await asyncio.sleep(LOCK_CHECK_S)
        return lock

    async def _once(self, timer: Timer) -> None:
        await self._logged(f"timer {_name(timer.handler)}", timer.handler, self.app)

    async def _logged(self, what: str, function: Callable[..., Any], *args: Any) -> None:
        error = await self.failure(called, self._beside, function, *args)
        if error is not None:
            kind = f"{what} raised {class_name(type(error))}"
            log_failure(f"{what} raised {describe(error)}", error, kind)


def _holds(lock: Lock, timer: Timer) -> bool | None:
    """Whether we hold it; where it cannot be asked, that is not known."""
    try:
        return lock.held()
    except Exception as error:
        _log_lock(timer, error)
        return None


def _log_lock(timer: Timer, error: Exception) -> None:
    name = _name(timer.handler)
    text = f"timer {name}: its lock fails, so it does not run here: {describe(error)}"
    log_failure(text, error, f"timer {name}: its lock fails")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def open_lock(plan: Plan, name: str) -> Lock:
    """The lock of a timer: of the app's first broker, or else of its first spool."""
    name = f"callboard.singleton.{plan.singleton}.{name}"
    places = {kind: settings for _, kind, settings in reversed(plan.outlets)}
    for connector in connectors():
        if connector.lock and connector.kind in places:
            return cast(Lock, connector.load("lock")(places[connector.kind], name))
    return FileLock(Path(plan.state_dir) / "spool.db", name)
