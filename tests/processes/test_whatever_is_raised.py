"""Whatever user code raises, wherever it is called: it is caught, and what waits is answered.

Each place of user code meets each exception, in threads as in a real worker and in the kit.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import select
import signal
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from actors import Actions, App, Events, HandlerActor, Message, Options
from actors.logic.bulks.bulk import Piece
from actors.logic.messages.records import pack
from actors.logic.settlement.failure import Outcome
from actors.plan.plan import RoutePlan
from actors.roles.port import Ended, Started, StartFailed
from actors.roles.protocol import Bulk, Settlement
from actors.testing import InMemorySystem
from actors.usercode.runner import UserCode
from actors.usercode.timers import TimerCode

DEADLINE = 10.0  #: seconds


# ── what is raised ────────────────────────────────────────────────────────────


class OddMeta(type):
    """Says nothing that holds of its classes, and cannot be compared or looked up."""

    def __getattribute__(cls, name: str) -> Any:
        raise SystemExit(4)

    def __hash__(cls) -> int:
        raise RuntimeError("no hash")

    def __eq__(cls, other: object) -> bool:
        raise KeyboardInterrupt

    def __instancecheck__(cls, instance: object) -> bool:
        raise SystemExit(4)

    def __subclasscheck__(cls, subclass: type) -> bool:
        raise SystemExit(4)


def odd_class() -> BaseException:
    class OddClass(Exception, metaclass=OddMeta):
        pass

    return OddClass()


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class MuteByExit(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class SaysNumber(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class OddText(str):
    def __getitem__(self, key: object) -> str:
        raise RuntimeError("no part")

    def encode(self, *args: object, **more: object) -> bytes:
        raise RuntimeError("no bytes")

    def split(self, *args: object, **more: object) -> list[str]:
        raise RuntimeError("no words")


class SaysOddText(Exception):
    def __str__(self) -> str:
        return OddText("odd")


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


class NoTruth(Exception):
    def __bool__(self) -> bool:
        raise RuntimeError("neither")

    def __len__(self) -> int:
        raise RuntimeError("no length")


class NoAttributes(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(5)


class OtherClass(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise KeyboardInterrupt


class OddProperties(Exception):
    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]
        raise RuntimeError("no args")

    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError("no cause")

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no traceback")

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError("no notes")


class Equal(Exception):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]


class Surrogate(Exception):
    __qualname__ = "Sur\ud800rogate"


class NoModule(Exception):
    __module__ = 5  # type: ignore[assignment]


def cycle() -> BaseException:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    one.__context__, two.__context__ = two, one
    return one


def deep() -> BaseException:
    error = ValueError("deepest")
    for _ in range(3000):
        error, error.__cause__ = ValueError("deep"), error
    return error


ERRORS: dict[str, Callable[[], BaseException]] = {
    "KeyError": lambda: KeyError("key"),
    "BaseException": BaseException,
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": lambda: StopIteration(1),
    "StopAsyncIteration": StopAsyncIteration,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "ExceptionGroup": lambda: ExceptionGroup("group", [KeyError("one"), OSError("two")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("group", [SystemExit(1), KeyError("two")]),
    "a cycle of causes": cycle,
    "a chain of 3000 causes": deep,
    "__str__ raises": Mute,
    "__str__ exits": MuteByExit,
    "__str__ returns a number": SaysNumber,
    "__str__ returns an odd str": SaysOddText,
    "false": Falsy,
    "__bool__ raises": NoTruth,
    "__getattribute__ exits": NoAttributes,
    "__class__ raises": OtherClass,
    "args and __cause__ raise": OddProperties,
    "not hashable": Equal,
    "a name that is no text": Surrogate,
    "a module that is a number": NoModule,
    "an odd metaclass": odd_class,
    "a message of 1 MB": lambda: ValueError("x" * 1_000_000),
    "a message that is no text": lambda: ValueError("\ud800"),
}


@pytest.fixture(params=list(ERRORS))
def error(request: pytest.FixtureRequest) -> Callable[[], BaseException]:
    return ERRORS[request.param]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Log lines are formatted, as they would be, and not kept."""
    logger = logging.getLogger("actors")
    handler = logging.StreamHandler(stream=_Nowhere())
    before = (logging.raiseExceptions, logger.propagate, logger.handlers[:])
    logging.raiseExceptions, logger.propagate, logger.handlers[:] = False, False, [handler]
    yield
    logging.raiseExceptions, logger.propagate, logger.handlers[:] = before
    with contextlib.suppress(BaseException):
        # asyncio.run does not take its handler back where an exception cannot be shown, and
        # what is taken back cannot be shown here either.
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Nowhere:
    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


# ── where it is raised ────────────────────────────────────────────────────────

Raise = Callable[[], BaseException]


def function(error: Raise) -> Any:
    def handler(messages: list[Message[Any]]) -> None:
        raise error()

    return handler


def coroutine(error: Raise) -> Any:
    async def handler(messages: list[Message[Any]]) -> None:
        raise error()

    return handler


def late_coroutine(error: Raise) -> Any:
    async def handler(messages: list[Message[Any]]) -> None:
        await asyncio.sleep(0)
        raise error()

    return handler


def method(error: Raise) -> Any:
    class Actor(HandlerActor):
        def handle(self, messages: list[Message[Any]]) -> None:
            raise error()

    return Actor


def returned_awaitable(error: Raise) -> Any:
    class Odd:
        def __await__(self) -> Any:
            raise error()

    return lambda messages: Odd()


def returned_thing(error: Raise) -> Any:
    class Odd:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise error()

    return lambda messages: Odd()


def own_loop(error: Raise) -> Any:
    async def fail() -> None:
        raise error()

    return lambda messages: asyncio.run(fail())


def group(error: Raise) -> Any:
    if error is GeneratorExit:
        pytest.skip("Python closes whatever awaits a task that raised it")

    async def fail() -> None:
        raise error()

    async def handler(messages: list[Message[Any]]) -> None:
        await asyncio.gather(fail())

    return handler


HANDLERS = {
    made.__name__: made
    for made in (
        function, coroutine, late_coroutine, method, returned_awaitable, returned_thing, own_loop,
        group,
    )
}  # fmt: skip


def bulk(number: int, count: int = 1) -> Bulk:
    raw = pack("id", "words", b"", 0, 1.0, 0, b"1")
    ends = array("I", [len(raw) * (i + 1) for i in range(count)]).tobytes()
    return Bulk(
        number, number, "words", (Piece("words", 1, number, raw * count, ends, 0),), (count,)
    )


def events(code: Any, until: type) -> Any:
    """The first event of a kind."""
    end = time.monotonic() + DEADLINE
    while True:
        assert time.monotonic() < end, f"no {until.__name__}"
        select.select([code.fileno()], [], [], 0.1)
        for event in code.turn(time.monotonic()):
            if isinstance(event, until):
                return event


def started(app: App, in_flight: int = 1) -> UserCode:
    code = UserCode.for_routes(app, (RoutePlan("words", ("words",), in_flight=in_flight),), "spool")
    code.start()
    return code


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("place", list(HANDLERS))
def test_a_bulk_is_answered_whatever_its_handler_raises(
    place: str, error: Raise, in_flight: int
) -> None:
    app = App()
    app.route(["words"], options={Events.ON_EXCEPTION: Actions.DEAD_LETTER})(HANDLERS[place](error))
    code = started(app, in_flight)
    events(code, Started)
    for number in (1, 2):  # it goes on after the first
        code.submit(bulk(number))
        done = events(code, Settlement)
        (single,) = done.singles
        assert single.outcome == Outcome.DEAD_LETTER
        assert len(single.reason) <= 500
        assert type(single.error) is str
        assert type(single.reason) is str
        (single.error + single.reason).encode()
    code.stop()
    events(code, Ended)
    code.close()


@pytest.mark.parametrize("awaits", [False, True])
def test_a_message_is_dead_whatever_its_validator_raises_and_its_neighbours_are_handled(
    error: Raise, awaits: bool
) -> None:
    app, seen = App(), []

    def check(value: int) -> int:
        if len(seen_by_check) == 1:
            seen_by_check.append(value)
            raise error()
        seen_by_check.append(value)
        return value

    seen_by_check: list[int] = []
    Checked = Annotated[int, AfterValidator(check)]

    def handler(messages: list[Message[Any]]) -> None:
        seen.append(len(messages))

    async def awaiting(messages: list[Message[Any]]) -> None:
        seen.append(len(messages))

    chosen: Any = awaiting if awaits else handler
    chosen.__annotations__["messages"] = list[Message[Checked]]
    app.route(["words"])(chosen)
    code = started(app)
    events(code, Started)
    code.submit(bulk(1, 3))
    done = events(code, Settlement)
    assert seen == [2]
    assert [single.outcome for single in done.singles] == [Outcome.DEAD_LETTER]
    code.close()


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("place", ["startup", "__init__", "on_start", "on_start's property"])
def test_a_start_fails_and_is_tried_again_whatever_it_raises(
    place: str, error: Raise, awaits: bool
) -> None:
    app, fails = App(), [True]

    def fail(at: str) -> None:
        if at == place and fails:
            fails.pop()
            raise error()

    class Actor(HandlerActor):
        def __init__(self) -> None:
            fail("__init__")

        def __getattribute__(self, name: str) -> Any:
            if name == "on_start":
                fail("on_start's property")
            return super().__getattribute__(name)

        def on_start(self) -> Any:
            return wait("on_start") if awaits else fail("on_start")

        def handle(self, messages: list[Message[Any]]) -> None: ...

    async def wait(at: str) -> None:
        fail(at)

    async def hook(app: App) -> None:
        fail("startup")

    app.run_on_startup(hook if awaits else lambda app: fail("startup"))
    app.route(["words"])(Actor)
    code = started(app)
    failed = events(code, StartFailed)
    failed.cause.encode()
    code.start()
    events(code, Started)
    code.submit(bulk(1))
    assert not events(code, Settlement).singles
    code.close()


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("place", ["on_stop", "shutdown"])
def test_an_end_is_told_whatever_it_raises_and_the_other_hooks_run(
    place: str, error: Raise, awaits: bool
) -> None:
    app, ran = App(), []

    def fail(at: str) -> None:
        ran.append(at)
        if at == place:
            raise error()

    class Actor(HandlerActor):
        def handle(self, messages: list[Message[Any]]) -> None: ...

        def on_stop(self) -> Any:
            return wait("on_stop") if awaits else fail("on_stop")

    async def wait(at: str) -> None:
        fail(at)

    async def hook(app: App) -> None:
        fail("shutdown")

    app.route(["words"])(Actor)
    app.run_on_shutdown(hook if awaits else lambda app: fail("shutdown"))
    app.run_on_shutdown(lambda app: ran.append("last"))
    code = started(app)
    events(code, Started)
    code.stop()
    ended = events(code, Ended)
    ended.cause.encode()
    code.close()
    assert ran == ["on_stop", "shutdown", "last"]


@pytest.mark.parametrize("awaits", [False, True])
def test_a_timer_goes_on_whatever_it_raises(error: Raise, awaits: bool) -> None:
    app, runs = App(), []

    def tick(app: App) -> None:
        runs.append(1)
        raise error()

    async def awaiting(app: App) -> None:
        tick(app)

    app.run_every(10.0)(awaiting if awaits else tick)
    app.route(["words"])(lambda messages: None)
    with InMemorySystem(app, raise_errors=False) as system:
        system.advance(25.0)
        (sent,) = system.deliver("words", [1])
        system.advance(61.0)
        assert sent.actions == [Actions.ACK]
    assert len(runs) >= 3


@pytest.mark.parametrize("awaits", [False, True])
def test_every_callback_is_called_whatever_the_first_raises(error: Raise, awaits: bool) -> None:
    app, told = App(host="127.0.0.1"), []

    def fail(cause: Exception, retries: int) -> None:
        raise error()

    async def awaiting(cause: Exception, retries: int) -> None:
        raise error()

    option = Options.CONNECTION_FAIL_CALLBACK
    app.route(["a"], options={option: awaiting if awaits else fail})(lambda messages: None)
    app.route(["b"], options={option: lambda cause, retries: told.append(retries)})(
        lambda messages: None
    )

    async def here(function: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None]:
        try:
            return function(*args), None
        except BaseException as raised:
            return None, raised

    async def play() -> None:
        code = TimerCode(lambda: app, here, here)
        await code.start()
        for retries in (1, 2):
            await code.connection_failed("rabbitmq", "gone", "unreachable", retries)

    asyncio.run(play())
    assert told == [1, 2]


@pytest.mark.parametrize("awaits", [False, True])
def test_a_finalizer_that_raises_costs_nothing(
    error: Raise, awaits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    app = App()

    class Left:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            raise error()

    def handler(messages: list[Message[Any]]) -> None:
        Left()
        gc.collect()

    async def awaiting(messages: list[Message[Any]]) -> None:
        handler(messages)

    app.route(["words"])(awaiting if awaits else handler)
    code = started(app)
    events(code, Started)
    code.submit(bulk(1))
    assert not events(code, Settlement).singles
    code.close()


def test_a_task_that_a_handler_left_costs_nothing_whatever_it_raises(error: Raise) -> None:
    app, kept = App(), []

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None:
        async def fail() -> None:
            raise error()

        kept.append(asyncio.ensure_future(fail()))
        await asyncio.sleep(0)

    code = started(app)
    events(code, Started)
    for number in (1, 2):
        code.submit(bulk(number))
        assert not events(code, Settlement).singles
    code.close()
    for task in kept:
        assert task.done()
        if not task.cancelled():
            task.exception()


def test_a_log_of_the_users_may_raise_whatever_it_likes(error: Raise) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise error()

    logging.getLogger("actors").handlers[:] = [Broken()]
    app, fails = App(), [True]

    @app.run_on_startup
    def hook(app: App) -> None:
        if fails:
            fails.pop()
            raise KeyError("start")

    @app.route(["words"], options={Events.ON_EXCEPTION: Actions.DEAD_LETTER})
    def handler(messages: list[Message[Any]]) -> None:
        raise KeyError("handler")

    @app.run_on_shutdown
    def end(app: App) -> None:
        raise KeyError("end")

    code = started(app)
    events(code, StartFailed)
    code.start()
    events(code, Started)
    code.submit(bulk(1))
    assert [single.outcome for single in events(code, Settlement).singles] == [Outcome.DEAD_LETTER]
    code.stop()
    events(code, Ended)
    code.close()


@pytest.mark.parametrize(
    "reason",
    [KeyError("key"), 5, Mute(), MuteByExit(), OddText("odd"), None],
    ids=lambda reason: type(reason).__name__,
)
def test_whatever_is_given_as_a_reason_is_taken(reason: Any) -> None:
    app = App()

    @app.route(["words"])
    def handler(messages: list[Message[Any]]) -> None:
        messages[0].dead_letter(reason)

    code = started(app)
    events(code, Started)
    code.submit(bulk(1))
    (single,) = events(code, Settlement).singles
    assert single.outcome == Outcome.DEAD_LETTER
    assert type(single.reason) is str
    code.close()


@pytest.mark.parametrize("place", ["handler", "on_start", "on_stop", "startup"])
def test_code_that_cancels_its_own_task_is_answered(place: str) -> None:
    app, fails = App(), [True]

    def cancel(at: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        if at == place and fails:
            fails.pop()
            task.cancel()

    @app.run_on_startup
    async def hook(app: App) -> None:
        cancel("startup")

    @app.route(["words"])
    class Actor(HandlerActor):
        async def on_start(self) -> None:
            cancel("on_start")

        async def handle(self, messages: list[Message[Any]]) -> None:
            cancel("handler")

        async def on_stop(self) -> None:
            cancel("on_stop")

    code = started(app)
    if place in ("startup", "on_start"):
        time.sleep(0)
    events(code, Started)
    code.submit(bulk(1))
    code.submit(bulk(2))
    found = 0
    while found < 2:  # neither suffers for it
        done = events(code, Settlement)
        assert not done.singles
        found += len(done.numbers)
    code.stop()
    events(code, Ended)
    code.close()


@pytest.mark.parametrize("place", list(HANDLERS))
def test_the_kit_answers_whatever_a_handler_raises(place: str, error: Raise) -> None:
    if place == "group" and error is KeyboardInterrupt:
        pytest.skip("the kit lets a Ctrl-C on its loop through")
    app = App()
    app.route(["words"], options={Events.ON_EXCEPTION: Actions.DEAD_LETTER})(HANDLERS[place](error))
    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("words", [1])
        system.advance(61.0)
        assert sent.actions == [Actions.DEAD_LETTER]
        assert len(system.errors("words")) >= 1
