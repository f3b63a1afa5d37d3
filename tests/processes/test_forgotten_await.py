"""A put that nobody awaited is told by its line, and no message is acknowledged over it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import operator
from collections.abc import Callable
from typing import Any

import pytest

from actors import (
    Actions,
    App,
    HandlerActor,
    InvalidHandler,
    Message,
    Options,
    Publisher,
    SpoolConnection,
)
from actors.testing import InMemorySystem


def app_of() -> App:
    return App(connections=[SpoolConnection()])


def put(app: App) -> Any:
    return app.connection("spool").put("out", {"x": 1})


# ── how it is forgotten ───────────────────────────────────────────────────────


def dropped(app: App) -> None:
    put(app)


def kept(app: App) -> None:
    KEPT.append(put(app))


def in_a_loop_of_its_own(app: App) -> None:
    async def main() -> None:
        put(app)

    asyncio.run(main())


def a_task_in_a_loop_of_its_own(app: App) -> None:
    async def main() -> None:
        KEPT.append(asyncio.get_running_loop().create_task(put(app)))

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())


def aput(app: App) -> None:
    KEPT.append(Publisher("spool:///nowhere/spool.db").aput("out", {"x": 1}))


def on_another_vhost(app: App) -> None:
    KEPT.append(app.connection("spool")["other"].put("out", {"x": 1}))


async def dropped_awaiting(app: App) -> None:
    put(app)


async def one_of_two(app: App) -> None:
    await put(app)
    put(app)


async def dropped_before_a_pause(app: App) -> None:
    put(app)
    await asyncio.sleep(1.0)


async def a_task(app: App) -> None:
    KEPT.append(asyncio.get_running_loop().create_task(put(app)))


async def gathered(app: App) -> None:
    KEPT.append(asyncio.gather(put(app), put(app)))


async def in_a_child(app: App) -> None:
    async def child() -> None:
        put(app)

    async with asyncio.TaskGroup() as group:
        group.create_task(child())


async def failed_in_a_task(app: App) -> None:
    KEPT.append(asyncio.get_running_loop().create_task(app.connection("spool").put("", {"x": 1})))
    await asyncio.sleep(1.0)


KEPT: list[Any] = []
NAME = operator.attrgetter("__name__")
FORGOTTEN: list[Callable[[App], Any]] = [
    dropped, kept, in_a_loop_of_its_own, aput, on_another_vhost, dropped_awaiting, one_of_two,
    dropped_before_a_pause, a_task, gathered, in_a_child, failed_in_a_task,
]  # fmt: skip

# ── and how it is not ─────────────────────────────────────────────────────────


def put_sync(app: App) -> None:
    app.connection("spool").put_sync("out", {"x": 1})


def run(app: App) -> None:
    asyncio.run(put(app))


def returned(app: App) -> Any:
    return put(app)


async def awaited(app: App) -> None:
    await put(app)


async def awaited_later(app: App) -> None:
    later = put(app)
    await asyncio.sleep(1.0)
    await later


async def all_gathered(app: App) -> None:
    await asyncio.gather(put(app), put(app))


async def in_a_group(app: App) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(put(app))


async def a_task_that_ended(app: App) -> None:
    KEPT.append(asyncio.get_running_loop().create_task(put(app)))
    await asyncio.sleep(1.0)


async def in_time(app: App) -> None:
    await asyncio.wait_for(put(app), 5.0)


async def a_failure_that_is_borne(app: App) -> None:
    with contextlib.suppress(ValueError):
        await app.connection("spool").put("", {"x": 1})
    results = await asyncio.gather(app.connection("spool").put("", {}), return_exceptions=True)
    assert isinstance(results[0], ValueError)


AWAITED: list[Callable[[App], Any]] = [
    put_sync, run, awaited, awaited_later, all_gathered, in_a_group, a_task_that_ended, in_time,
    a_failure_that_is_borne,
]  # fmt: skip


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    KEPT.clear()


def handler(app: App, way: Callable[[App], Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(way):

        async def awaiting(messages: list[Message[Any]]) -> None:
            await way(app)

        return awaiting
    return lambda messages: way(app)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("way", FORGOTTEN, ids=NAME)
def test_a_handler_that_forgot_a_put_fails_once_and_names_its_line(
    way: Callable[[App], Any], in_flight: int
) -> None:
    app = app_of()
    app.route(["in"], options={Options.IN_FLIGHT: in_flight})(handler(app, way))
    with InMemorySystem(app) as system:
        (sent,) = system.deliver("in", [1])
        system.advance(3600.0)
        assert sent.actions == [Actions.DEAD_LETTER]
        (error,) = system.errors("in")
        assert isinstance(error, InvalidHandler)
        assert f"{__file__}:" in str(error)
        assert "put" in sent.reason
        (dead,) = system.dead("in")
        assert dead.body == b"1"


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("way", [*AWAITED, returned], ids=NAME)
def test_a_handler_that_awaited_its_puts_is_fine(way: Callable[[App], Any], in_flight: int) -> None:
    app = app_of()
    app.route(["in"], options={Options.IN_FLIGHT: in_flight})(handler(app, way))
    with InMemorySystem(app) as system:
        (sent,) = system.deliver("in", [1])
        system.advance(3600.0)
        assert sent.actions == [Actions.ACK]
        assert bool(system.published()) is (way is not a_failure_that_is_borne)


def test_the_text_says_where_what_and_what_to_do() -> None:
    app = app_of()

    @app.route(["in"])
    def handler(messages: list[Message[Any]]) -> None:
        app.connection("spool").put("out", {"x": 1})  # type: ignore[unused-coroutine]

    line = inspect.getsourcelines(handler)[1] + 2
    with InMemorySystem(app) as system:
        system.deliver("in", [1])
        system.advance(60.0)
        (error,) = system.errors("in")
    assert str(error) == (
        f"{__file__}:{line}: put to 'out' was never awaited: await it, or use put_sync where there"
        " is no await"
    )


def test_the_handlers_own_exception_is_the_one_that_counts() -> None:
    app = app_of()

    @app.route(["in"])
    async def handler(messages: list[Message[Any]]) -> None:
        app.connection("spool").put("out", {"x": 1})  # type: ignore[unused-coroutine]
        raise KeyError("its own")

    with InMemorySystem(app) as system:
        system.deliver("in", [1])
        system.advance(60.0)
        assert {type(error) for error in system.errors("in")} == {KeyError}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", [w for w in FORGOTTEN if w is not in_a_child], ids=NAME)
@pytest.mark.parametrize("place", ["startup", "shutdown", "on_start", "on_stop", "timer"])
def test_hooks_and_timers_that_forgot_a_put_fail(
    place: str, way: Callable[[App], Any], caplog: pytest.LogCaptureFixture
) -> None:
    app, fails = app_of(), [True]

    def act(at: str) -> Any:
        if at == place and fails:
            fails.clear()
            return way(app)
        return None

    app.run_on_startup(lambda app: act("startup"))
    app.run_on_shutdown(lambda app: act("shutdown"))
    if place == "timer":
        app.run_every(60.0)(lambda app: act("timer"))

    @app.route(["in"])
    class Actor(HandlerActor):
        def on_start(self) -> Any:
            return act("on_start")

        def handle(self, messages: list[Message[Any]]) -> None: ...

        def on_stop(self) -> Any:
            return act("on_stop")

    with InMemorySystem(app, raise_errors=False) as system:
        system.advance(120.0)  # a start that failed is tried again
        (sent,) = system.deliver("in", [1])
        system.advance(60.0)
        assert sent.actions == [Actions.ACK]
        raised = system.errors("in")
    if place in ("startup", "on_start"):  # what its supervisor hears, tells and tries again
        assert [type(error) for error in raised] == [InvalidHandler]
    else:
        assert "InvalidHandler" in caplog.text
        assert f"{__file__}:" in caplog.text


def test_a_task_that_a_hook_leaves_behind_may_put_what_it_likes() -> None:
    app, tasks = app_of(), []

    @app.run_on_startup
    async def begin(app: App) -> None:
        async def beat() -> None:
            while True:
                await app.connection("spool").put("beats", {})
                await asyncio.sleep(10.0)

        tasks.append(asyncio.get_running_loop().create_task(beat()))
        await asyncio.sleep(0)  # it is at its first put

    app.route(["in"])(lambda messages: None)
    with InMemorySystem(app) as system:
        system.advance(60.0)
        assert len(system.published()) >= 5
