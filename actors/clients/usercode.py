"""The user's code, called: hooks, `on_start`, handlers, `on_stop`.

All that it raises is caught here, whatever class it is of: Thespian would run the message
that led to it once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors.clients import Done
from actors.clients.verdicts import Rules, Share, describe, settle
from actors.decoding import decoder_for
from actors.errors import ConfigurationError, InvalidMessage
from actors.kinds import KINDS
from actors.logic.failure import class_name
from actors.message import Handout, Message
from actors.metrics import Counter, Histogram
from actors.options import compile_table, decision

if TYPE_CHECKING:
    from actors.app import App

#: Seconds for each thing that is done at the end.
STOP_SECONDS = 10.0

DURATION = Histogram(
    "callboard_handler_duration_seconds", "Time that a handler took for a bulk.", ["route"]
)
BULK_SIZE = Histogram(
    "callboard_bulk_size",
    "Messages in a bulk.",
    ["route"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096),
)
FAILURES = Counter(
    "callboard_handler_failures",
    "Bulks on which a handler raised, by the class of the exception.",
    ["route", "exception"],
)

#: Calls a function of the user's where it may block.
Call = Callable[..., Any]

logger = logging.getLogger("actors.handler")


class AppCode:
    """The app in this process, and its hooks."""

    def __init__(self, load: Callable[[], App], call: Call, hooks: bool = True) -> None:
        self.raised: list[BaseException] | None = None  #: kept where somebody reads it
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

    async def failure(self, function: Callable[..., Any], *args: Any) -> BaseException | None:
        """What a function raises, whatever its class."""
        try:
            await awaited(function(*args))
        except BaseException as error:
            if self.closing:
                raise
            if self.raised is not None:
                self.raised.append(error)
            return error
        return None


class HandlerCode(AppCode):
    """The handler of one route."""

    _handler: Callable[..., Any]
    _rules: Rules
    _decode: Callable[[bytes], Any]
    _typed: bool

    def __init__(
        self, load: Callable[[], App], call: Call, route: str, kind: str, hooks: bool = True
    ) -> None:
        super().__init__(load, call, hooks)
        self._name = route
        self._message = KINDS[kind]
        self._kind = kind
        self._instance: Any = None  #: of the user's HandlerActor
        self._ready = False
        self._duration, self._bulk_size = DURATION.labels(route), BULK_SIZE.labels(route)

    async def start(self) -> None:
        """… and prepare the handler, a new instance each time."""
        await super().start()
        if self._name not in self.app.routes:
            raise ConfigurationError(f"route {self._name!r} is not in the app")
        route = self.app.routes[self._name]
        table = compile_table(route.options.on_exception, self._kind)
        self._rules = Rules(decision(route.options.on_success), table)
        self._typed = route.message_type is not None
        self._decode = decoder_for(route.message_type, self._kind)
        self._handler = route.handler
        if isinstance(self._handler, type):
            self._instance = self._handler()
            self._instance.app = self.app
            self._instance.log = logging.getLogger(f"actors.handler.{self._name}")
            await awaited(self._instance.on_start())
            self._handler = self._instance.handle
        self._ready = True

    async def handle(self, share: Share) -> Done:
        """Run one bulk and say what becomes of each of its messages."""
        handout = Handout(self._name, self._decode)
        messages = share.messages(self._message, handout)
        valid = self._valid(messages, handout) if self._typed else list(messages)
        error = await self._measured(valid) if valid else None
        with contextlib.suppress(Exception):  # a log of the user's that fails costs no answer
            self._log(error, handout, len(messages))
        return settle(share, messages, handout, error, self._rules)

    async def stop(self) -> str:
        """`on_stop`, then the shutdown hooks."""
        cause = ""
        if self._ready and self._instance is not None:
            cause = await self.guarded("on_stop", self._instance.on_stop)
        self._ready = False
        after = await super().stop()  # whatever became of on_stop
        return cause or after

    async def _measured(self, messages: list[Message[Any]]) -> BaseException | None:
        clock = asyncio.get_running_loop().time
        begin = clock()
        error = await self.failure(self._run, messages)
        self._duration.observe(clock() - begin)
        self._bulk_size.observe(len(messages))
        if error is not None:
            FAILURES.labels(self._name, class_name(type(error))).inc()
        return error

    async def _run(self, messages: list[Message[Any]]) -> None:
        result = await awaited(await self._invoke(messages))
        if result is not None:
            raise TypeError(
                f"the handler of route {self._name} returned {type(result).__name__}; "
                "a handler returns nothing"
            )

    async def _invoke(self, messages: list[Message[Any]]) -> Any:
        if inspect.iscoroutinefunction(self._handler):
            return await self._handler(messages)
        return await self._call(self._handler, messages)

    def _log(self, error: BaseException | None, handout: Handout, size: int) -> None:
        if error is not None:
            text = "route %s: the handler raised on a bulk of %d: %s"
            logger.error(text, self._name, size, describe(error), exc_info=error)
        elif handout.invalid:
            first = describe(next(iter(handout.invalid.values())))
            text = "route %s: %d of %d messages are invalid; the first: %s"
            logger.warning(text, self._name, len(handout.invalid), size, first)

    @staticmethod
    def _valid(messages: list[Message[Any]], handout: Handout) -> list[Message[Any]]:
        for message in messages:
            with contextlib.suppress(InvalidMessage):
                _ = message.body
        return [m for index, m in enumerate(messages) if index not in handout.invalid]


async def awaited(result: Any) -> Any:
    """What a call comes to, of a `def` or an `async def`."""
    return await result if inspect.isawaitable(result) else result
