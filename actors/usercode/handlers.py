"""The handlers of one process, called: `on_start`, bulk after bulk, `on_stop`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.api.callables import misfit
from actors.api.connector import connector_of
from actors.api.message import Handout, Message, decoder_for
from actors.api.options import compile_table, policy_of
from actors.api.outlet import Puts, leave
from actors.api.route import ProcessHandler
from actors.errors import ConfigurationError, InvalidHandler, InvalidMessage
from actors.log import own_logger
from actors.logic.messages.entry import MessageId
from actors.logic.settlement.failure import class_name, describe, said
from actors.metrics import Counter, Histogram
from actors.roles.protocol import Settlement
from actors.usercode.app import AppCode, awaited, called, log_failure
from actors.usercode.loops import Call
from actors.usercode.outcomes import Policies, Share, ShareQueue, settle
from actors.usercode.watch import Watch

if TYPE_CHECKING:
    from actors.api.app import App

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

#: Seconds for which bulks that take no time are run without a look at anything else, and their
#: answers gathered.
GATHER = 0.001

logger = own_logger("actors.handler")


class HandlerCode(AppCode):
    """The app with the handlers of some routes of it."""

    def __init__(
        self, load: Callable[[], App], call: Call, routes: Iterable[RouteCode], hooks: bool = True
    ) -> None:
        super().__init__(load, call, hooks)
        self._routes = {route.name: route for route in routes}

    async def start(self) -> None:
        """… and prepare those handlers that are not; where one fails, the rest wait for it."""
        await super().start()
        for route in self._routes.values():
            self.place = f"route {route.name}: "
            if not route.ready:
                await route.prepare(self.app)
                self.place = f"route {route.name}: on_start raised "
                await route.start()

    async def handle(self, name: str, waiting: ShareQueue) -> list[Settlement]:
        """Run the first bulk that waits for a route, and of a function as many of the next as
        take no time. Say what becomes of each of their messages."""
        route = self._routes[name]
        works = await route.begin(waiting)
        return [await self._end(route, work) for work in works]

    async def _end(self, route: RouteCode, work: Work) -> Settlement:
        if work.error is None:
            work.error = await self.failure(route.end, work, route=route.name)
        else:
            self.keep(work.error, route.name)
        for escaped in work.escaped:
            self.keep(escaped, route.name)
        with contextlib.suppress(BaseException):  # a log of the user's that fails costs no answer
            route.measure(work)
            route.log(work)
        seconds = work.ended - work.opened
        return settle(work.share, work.messages, work.handout, work.error, route.policies, seconds)

    async def stop(self) -> str:
        """`on_stop` of each, then the shutdown hooks."""
        causes = [await self.guarded("on_stop", route.stop) for route in self._routes.values()]
        causes.append(await super().stop())  # whatever became of on_stop
        return next(filter(None, causes), "")


@dataclass(slots=True)
class Work:
    """A bulk in the hands of a handler."""

    share: Share
    messages: list[Message[Any]]
    handout: Handout
    puts: Puts
    opened: float
    began: float = 0.0  #: when the handler was called
    ended: float = 0.0
    given: int = 0  #: messages that it was called with
    result: Any = None  #: what the call returned
    error: BaseException | None = None  #: what it raised
    escaped: tuple[BaseException, ...] = ()  #: what validators raised that is no `Exception`


class RouteCode:
    """The handler of one route.

    `call` is how it is called where it is a function, `live` how the other methods of an
    instance are: where its `handle` runs, unless that is in several threads.
    """

    policies: Policies

    def __init__(
        self, name: str, kind: str, call: Call, live: Call, watch: Watch | None = None
    ) -> None:
        self.name = name
        self._watch = watch  #: of the jobs of a task
        self.ready = False
        self._kind = kind
        self._connector = connector_of(kind)
        self._message = self._connector.load("message")
        self._call = call
        self._live = live
        self._handler: Callable[..., Any]
        self._decode: Callable[[bytes], Any]
        self._typed = False
        self._awaits = False  # whether the handler is a coroutine function
        self._instance: Any = None  #: of the user's HandlerActor
        self._duration, self._bulk_size = DURATION.labels(name), BULK_SIZE.labels(name)

    async def prepare(self, app: App) -> None:
        """Make the handler, a new instance each time."""
        if self.name not in app.routes:
            raise ConfigurationError(f"route {self.name!r} is not in the app")
        route = app.routes[self.name]
        table = compile_table(route.options.on_exception)
        self.policies = Policies(policy_of(route.options.on_success), table)
        self._typed = route.adapter is not None
        self._decode = decoder_for(route.adapter, self._connector.plain_text)
        self._handler = route.handler
        if isinstance(self._handler, type):
            # What awaits finds a running loop in its __init__ too.
            self._instance = (
                self._handler() if route.is_async else await called(self._live, self._handler)
            )
            self._instance.app = app
            self._instance.log = own_logger(f"actors.handler.{self.name}")
            self._handler = self._instance.handle
        elif isinstance(self._handler, ProcessHandler):
            self._instance = self._handler.for_process(app, self._watch)
            self._handler = self._instance.handle
        self._awaits = inspect.iscoroutinefunction(self._handler)

    async def start(self) -> None:
        """Its first call."""
        if self._instance is not None:
            await called(self._live, self._instance.on_start)
        self.ready = True

    async def stop(self) -> None:
        """Its last call."""
        if self.ready and self._instance is not None:
            self.ready = False
            await called(self._live, self._instance.on_stop)

    async def begin(self, waiting: ShareQueue) -> list[Work]:
        """Call the handler with the first bulk that waits; where it is a function, and has
        already returned nothing, also with the next, until `GATHER` seconds have gone."""
        clock = asyncio.get_running_loop().time
        if self._awaits:
            share = waiting.take()
            return [self._call_handler(share, clock)] if share else []
        # A pause of the loop, or a thread, is not had for nothing.
        works: list[Work] = []
        _, error = await self._call(self._call_some, waiting, works, clock)
        if error is not None:
            raise error
        return works

    def _call_some(
        self, waiting: ShareQueue, works: list[Work], clock: Callable[[], float]
    ) -> None:
        until = clock() + GATHER
        while share := waiting.take():
            run = contextvars.copy_context().run
            work = run(self._call_handler, share, clock)
            works.append(work)
            if work.result is not None or clock() >= until:
                return

    def _call_handler(self, share: Share, clock: Callable[[], float]) -> Work:
        """With what is valid."""
        handout = Handout(self.name, self._decode)
        handout.share = share
        messages = share.messages(self._message, handout)
        work = Work(share, messages, handout, Puts(), clock())
        token = work.puts.enter()
        try:
            valid = self._valid(work)
            work.began, work.given = clock(), len(valid)
            if valid:
                work.result = self._handler(valid)
        except BaseException as error:
            work.error = self._explained(error)
            work.puts.forget()
        finally:
            leave(token)
        work.ended = clock()
        return work

    def _explained(self, error: BaseException) -> BaseException:
        """InvalidHandler where a decorator cannot even call what it has decorated."""
        with contextlib.suppress(BaseException):  # of an odd error nothing may be asked
            if misfit(self._handler, error):
                mistake = InvalidHandler(f"the handler of route {self.name}: {said(error)}")
                return mistake.with_traceback(error.__traceback__)
        return error

    async def end(self, work: Work) -> None:
        """Await what the handler returned. Raises whatever that raises, and InvalidHandler for
        what it comes to, or for a put that was not awaited."""
        if work.result is not None:
            token = work.puts.enter()
            try:
                work.result = await awaited(work.result)
            except BaseException as error:
                work.puts.forget()
                if (explained := self._explained(error)) is not error:
                    raise explained from None
                raise
            finally:
                leave(token)
                work.ended = asyncio.get_running_loop().time()
        work.puts.check()
        if not isinstance(work.result, MessageId | None):
            raise InvalidHandler(
                f"the handler of route {self.name} returned {class_name(type(work.result))}; "
                "a handler returns nothing"
            )

    def _valid(self, work: Work) -> list[Message[Any]]:
        """Those that are what the handler asks for; of an untyped one all."""
        if not self._typed:
            return list(work.messages)
        invalid = work.handout.invalid
        for index, message in enumerate(work.messages):
            try:
                _ = message.body
            except InvalidMessage:
                continue
            except BaseException as error:  # SystemExit of a validator, say
                work.escaped += (error,)
                invalid[index] = InvalidMessage(describe(error))
        return [m for index, m in enumerate(work.messages) if index not in invalid]

    def measure(self, work: Work) -> None:
        """Count what a bulk took, and what it came to."""
        if work.given:
            self._duration.observe(work.ended - work.began)
            self._bulk_size.observe(work.given)
        if work.error is not None:
            FAILURES.labels(self.name, class_name(type(work.error))).inc()

    def log(self, work: Work) -> None:
        """Say what went wrong with a bulk."""
        size, invalid, error = len(work.messages), work.handout.invalid, work.error
        if error is not None:
            text = f"route {self.name}: the handler raised on a bulk of {size}: {describe(error)}"
            name = class_name(type(error))
            log_failure(text, error, f"route {self.name}: the handler raised {name}")
        elif invalid:
            first = describe(next(iter(invalid.values())))
            are = f"of {size} messages {'is' if len(invalid) == 1 else 'are'} invalid; the first"
            text = f"route {self.name}: {len(invalid)} {are}: {first}"
            kind = f"route {self.name}: a bulk held invalid messages"
            log_failure(text, kind=kind, level=logging.WARNING)
