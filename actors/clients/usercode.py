"""The app in a process: loaded, its hooks run, and what it raises caught.

All that it raises is caught here, whatever class it is of: Thespian would run the message
that led to it once more.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors.clients.verdicts import describe

if TYPE_CHECKING:
    from actors.app import App

#: Seconds for each thing that is done at the end.
STOP_SECONDS = 10.0

logger = logging.getLogger("actors.handler")


class AppCode:
    """The app in this process, and its hooks."""

    def __init__(self, load: Callable[[], App], hooks: bool = True) -> None:
        #: What was raised, and by which route's handler; kept where somebody reads it.
        self.raised: list[tuple[str, BaseException]] | None = None
        self.place = ""  #: what the start is at, for people
        self.closing = False  #: what is cancelled now is not the user's doing
        self._load = load
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
            await awaited(self._left[0](self._app))
            self._left.popleft()
        self._app.freeze()

    async def stop(self) -> str:
        """Run the shutdown hooks, all of them; returns what went wrong first."""
        if self._app is None or self._left or not self._hooks:
            return ""
        causes = [
            await self.guarded("a shutdown hook", hook, self._app)
            for hook in self._app.shutdown_hooks
        ]
        close = self._app.close_outlets
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
            logger.error("%s", cause)
            return cause
        error = task.result()
        if error is None:
            return ""
        logger.error("%s raised %s", what, describe(error), exc_info=error)
        return f"{what} raised {describe(error)}"

    async def failure(
        self, function: Callable[..., Any], *args: Any, route: str = ""
    ) -> BaseException | None:
        """What a function raises, whatever its class."""
        try:
            result = function(*args)
            if inspect.isawaitable(result):
                await result
        except BaseException as error:
            if self.closing:
                raise
            if self.raised is not None:
                self.raised.append((route, error))
            return error
        return None


async def awaited(result: Any) -> Any:
    """What a call comes to, of a `def` or an `async def`."""
    return await result if inspect.isawaitable(result) else result
