"""The handlers of one process, called: `on_start`, bulk after bulk, `on_stop`."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from actors.clients import Done
from actors.clients.loops import Call, call_here
from actors.clients.usercode import AppCode, awaited
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

logger = logging.getLogger("actors.handler")


class HandlerCode(AppCode):
    """The app with the handlers of some routes of it."""

    def __init__(
        self, load: Callable[[], App], routes: Iterable[RouteCode], hooks: bool = True
    ) -> None:
        super().__init__(load, hooks)
        self._routes = {route.name: route for route in routes}

    async def start(self) -> None:
        """… and prepare those handlers that are not; where one fails, the rest wait for it."""
        await super().start()
        for route in self._routes.values():
            self.place = f"route {route.name}: " if len(self._routes) > 1 else ""
            if not route.ready:
                await route.start(self.app)

    async def handle(self, name: str, share: Share) -> Done:
        """Run one bulk of a route and say what becomes of each of its messages."""
        clock = asyncio.get_running_loop().time
        begin = clock()
        route = self._routes[name]
        messages, handout = route.open(share)
        error = None
        if valid := route.valid(messages, handout):
            called = clock()
            error = await self.failure(route.run, valid, route=name)
            route.measure(clock() - called, len(valid), error)
        with contextlib.suppress(Exception):  # a log of the user's that fails costs no answer
            route.log(error, handout, len(messages))
        return settle(share, messages, handout, error, route.rules, clock() - begin)

    async def stop(self) -> str:
        """`on_stop` of each, then the shutdown hooks."""
        causes = [await self.guarded("on_stop", route.stop) for route in self._routes.values()]
        causes.append(await super().stop())  # whatever became of on_stop
        return next(filter(None, causes), "")


class RouteCode:
    """The handler of one route.

    `call` runs it where it may block. The life of an instance is spent where its `handle`
    runs, unless that is in several threads.
    """

    rules: Rules

    def __init__(self, name: str, kind: str, call: Call, *, one_thread: bool) -> None:
        self.name = name
        self.ready = False
        self._kind = kind
        self._message = KINDS[kind]
        self._call = call
        self._live: Call = call if one_thread else call_here
        self._handler: Callable[..., Any]
        self._decode: Callable[[bytes], Any]
        self._typed = False
        self._awaits = False  # whether the handler is a coroutine function
        self._instance: Any = None  #: of the user's HandlerActor
        self._duration, self._bulk_size = DURATION.labels(name), BULK_SIZE.labels(name)

    async def start(self, app: App) -> None:
        """Prepare the handler, a new instance each time."""
        if self.name not in app.routes:
            raise ConfigurationError(f"route {self.name!r} is not in the app")
        route = app.routes[self.name]
        table = compile_table(route.options.on_exception)
        self.rules = Rules(decision(route.options.on_success), table)
        self._typed = route.adapter is not None
        self._decode = decoder_for(route.adapter, self._kind)
        self._handler = route.handler
        if isinstance(self._handler, type):
            self._instance = await self._live(self._handler)
            self._instance.app = app
            self._instance.log = logging.getLogger(f"actors.handler.{self.name}")
            await awaited(await self._live(self._instance.on_start))
            self._handler = self._instance.handle
        self._awaits = inspect.iscoroutinefunction(self._handler)
        self.ready = True

    async def stop(self) -> None:
        """Its last call."""
        if self.ready and self._instance is not None:
            self.ready = False
            await awaited(await self._live(self._instance.on_stop))

    def open(self, share: Share) -> tuple[list[Message[Any]], Handout]:
        """The messages of a bulk, and what they have in common."""
        handout = Handout(self.name, self._decode)
        return share.messages(self._message, handout), handout

    def valid(self, messages: list[Message[Any]], handout: Handout) -> list[Message[Any]]:
        """Those that are what the handler asks for; of an untyped one all."""
        if not self._typed:
            return list(messages)
        for message in messages:
            with contextlib.suppress(InvalidMessage):
                _ = message.body
        return [m for index, m in enumerate(messages) if index not in handout.invalid]

    async def run(self, messages: list[Message[Any]]) -> None:
        """Call the handler. Raises whatever it raises, and TypeError for what it returns."""
        if self._awaits:
            result = await self._handler(messages)
        else:
            result = await self._call(self._handler, messages)
        if result is not None and (result := await awaited(result)) is not None:
            raise TypeError(
                f"the handler of route {self.name} returned {type(result).__name__}; "
                "a handler returns nothing"
            )

    def measure(self, seconds: float, size: int, error: BaseException | None) -> None:
        """Count what a bulk took, and what it came to."""
        self._duration.observe(seconds)
        self._bulk_size.observe(size)
        if error is not None:
            FAILURES.labels(self.name, class_name(type(error))).inc()

    def log(self, error: BaseException | None, handout: Handout, size: int) -> None:
        """Say what went wrong with a bulk."""
        if error is not None:
            text = "route %s: the handler raised on a bulk of %d: %s"
            logger.error(text, self.name, size, describe(error), exc_info=error)
        elif handout.invalid:
            first = describe(next(iter(handout.invalid.values())))
            text = "route %s: %d of %d messages are invalid; the first: %s"
            logger.warning(text, self.name, len(handout.invalid), size, first)
