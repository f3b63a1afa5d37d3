"""The app in a process: loaded, its hooks run, and what it raises caught.

All that it raises is caught here, whatever class it is of: Thespian would run the message
that led to it once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from actors.api.outlet import Puts, leave
from actors.log import in_force, own_logger
from actors.logic.messages.repeats import PERIOD, Repeats
from actors.logic.settlement.failure import describe
from actors.usercode.loops import Call

if TYPE_CHECKING:
    from actors.api.app import App

#: Seconds for each thing that is done at the end.
STOP_SECONDS = 10.0

logger = own_logger("actors.handler")

#: Failures of this process, by the level of their lines.
_repeats = {level: Repeats() for level in (logging.ERROR, logging.WARNING)}


class AppCode:
    """The app in this process, and its hooks."""

    def __init__(self, load: Callable[[], App], call: Call, hooks: bool = True) -> None:
        """`call` is how functions among the hooks are called."""
        #: What was raised, and by which route's handler; kept where somebody reads it.
        self.raised: list[tuple[str, BaseException]] | None = None
        self.place = ""  #: what the start is at, for people
        self.closing = False  #: what is cancelled now is not the user's doing
        self._load = load
        self._call = call
        self._hooks = hooks
        self._app: App | None = None
        self._left: deque[Callable[..., Any]] = deque()  #: startup hooks to run

    async def start(self) -> None:
        """Load the app and run its startup hooks; called again after it has raised, it goes
        on with the hook that did.
        """
        if self._app is None:
            self._app = self._load()
            self._app.frozen = False  # in memory, all processes of an app share it
            self._left.extend(self._app.startup_hooks if self._hooks else ())
        while self._left:
            self.place = "a startup hook raised "
            await called(self._call, self._left[0], self._app)
            self._left.popleft()
        self.place = ""
        self._app.freeze()

    async def stop(self) -> str:
        """Run the shutdown hooks, all of them; returns what went wrong first."""
        sum_up(0.0)
        if self._app is None or self._left or not self._hooks:
            return ""
        causes = [
            await self.guarded("a shutdown hook", called, self._call, hook, self._app)
            for hook in self._app.shutdown_hooks
        ]
        close = self._app.close
        causes.append(await self.guarded("closing connections", asyncio.to_thread, close))
        return next(filter(None, causes), "")

    @property
    def app(self) -> App:
        if self._app is None:
            raise RuntimeError("the app is not loaded yet")
        return self._app

    async def guarded(self, what: str, function: Callable[..., Any], *args: Any) -> str:
        """Call what must neither raise nor last; returns what went wrong."""
        task = asyncio.ensure_future(self.failure(function, *args))
        await asyncio.wait({task}, timeout=STOP_SECONDS)
        if not task.done():
            task.cancel()
            cause = f"{what} did not end within {STOP_SECONDS:g} s"
            log_failure(cause)
            return cause
        error = task.result()
        if error is None:
            return ""
        cause = f"{what} raised {describe(error)}"
        log_failure(cause, error)
        return cause

    async def failure(
        self, function: Callable[..., Coroutine[Any, Any, object]], *args: Any, route: str = ""
    ) -> BaseException | None:
        """What a coroutine raises, whatever its class."""
        try:
            await function(*args)
        except BaseException as error:
            if self.closing:
                raise
            await self._uncancelled()
            self.keep(error, route)
            return error
        await self._uncancelled()
        return None

    def keep(self, error: BaseException, route: str = "") -> None:
        """Where somebody reads what was raised."""
        if self.raised is not None:
            self.raised.append((route, error))

    async def _uncancelled(self) -> None:
        """Bear the cancellation that the user's code left behind: it is meant for what it did,
        not for what comes next."""
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if self.closing:
                    raise


async def called(call: Call, function: Callable[..., Any], *args: Any) -> Any:
    """What some code of the user's returns: a coroutine runs on the loop, a function where
    `call` has it. Raises what it raises, and InvalidHandler for a put that it did not await."""
    puts = Puts(asyncio.current_task())
    token = puts.enter()
    try:
        if inspect.iscoroutinefunction(function):
            result = await function(*args)
        else:
            result, error = await call(function, *args)
            if error is not None:
                raise error
            result = await awaited(result)
    except BaseException:
        puts.forget()
        raise
    finally:
        leave(token)
    puts.check()
    return result


async def awaited(result: Any) -> Any:
    """What a call comes to, of a `def` or an `async def`."""
    return await result if inspect.isawaitable(result) else result


def log_failure(
    text: str, error: BaseException | None = None, kind: str = "", level: int = logging.ERROR
) -> None:
    """A line with the traceback of an error of the user's. Never raises: neither where the
    error cannot be shown, nor where a log of the user's fails.

    Of a `kind`, where one is given, the first is told in full, and those that follow within
    `PERIOD` as a number; to be called on an event loop then.
    """
    if kind and in_force():
        if _nothing_repeats():
            asyncio.get_running_loop().call_later(PERIOD, sum_up)
        if not _repeats[level].is_new(kind, describe(error) or text, time.monotonic()):
            return
    for shown in (error, None):
        with contextlib.suppress(BaseException):
            logger.log(level, "%s", text, exc_info=shown)
            return


def sum_up(period: float = PERIOD) -> None:
    """Tell of failures that were only counted."""
    for level, repeats in _repeats.items():
        for line in repeats.due(time.monotonic(), period):
            with contextlib.suppress(BaseException):
                logger.log(level, "%s", line)
    if period and not _nothing_repeats():
        asyncio.get_running_loop().call_later(PERIOD, sum_up)


def _nothing_repeats() -> bool:
    return all(repeats.empty for repeats in _repeats.values())
