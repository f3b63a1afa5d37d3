"""A `def` runs where no event loop is running: it may run one of its own, here and in the kit."""

from __future__ import annotations

import asyncio
import contextvars
import select
import sqlite3
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from asgiref.sync import async_to_sync

from actors import Actions, App, Events, HandlerActor, Message, Options
from actors.logic.bulks.bulk import Piece
from actors.logic.messages.records import pack
from actors.plan.plan import Plan, RoutePlan
from actors.roles.port import Ended, Started
from actors.roles.protocol import Bulk, Settlement
from actors.testing import InMemorySystem
from actors.usercode.runner import ClockCode, UserCode

DEADLINE = 10.0  #: seconds


async def hello() -> str:
    await asyncio.sleep(0.001)
    return "hello"


def old_idiom() -> str:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return asyncio.get_event_loop().run_until_complete(hello())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def runner() -> str:
    with asyncio.Runner() as runner:
        return runner.run(hello())


WAYS: dict[str, Callable[[], str]] = {
    "asyncio.run": lambda: asyncio.run(hello()),
    "asyncio.Runner": runner,
    "a loop that is set": old_idiom,
    "async_to_sync": lambda: async_to_sync(hello)(),
    "anyio.run": lambda: anyio.run(hello),
}


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Callable[[], str]:
    return WAYS[request.param]


def everywhere(way: Callable[[], str], in_flight: int) -> tuple[App, list[str]]:
    """An app that runs a loop of its own wherever a `def` of the user's is called."""
    app, told = App(), []

    def tell(place: str) -> None:
        told.append(f"{place}: {way()}")

    app.run_on_startup(lambda app: tell("startup"))
    app.run_on_shutdown(lambda app: tell("shutdown"))

    @app.route(["words"], options={Options.IN_FLIGHT: in_flight})
    def function(messages: list[Message[Any]]) -> None:
        tell("function")

    @app.route(["actors"], options={Options.IN_FLIGHT: in_flight})
    class Actor(HandlerActor):
        def __init__(self) -> None:
            tell("__init__")

        def on_start(self) -> None:
            tell("on_start")

        def handle(self, messages: list[Message[Any]]) -> None:
            tell("handle")

        def on_stop(self) -> None:
            tell("on_stop")

    return app, told


PLACES = ["startup", "__init__", "on_start", "function", "handle", "on_stop", "shutdown"]


def bulk(route: str, number: int) -> Bulk:
    raw = pack("id", route, b"", 0, 1.0, 0, b"1")
    ends = array("I", [len(raw)]).tobytes()
    return Bulk(number, number, route, (Piece(route, 1, number, raw, ends, 0),), (1,))


def events(code: Any, until: type, count: int = 1) -> None:
    found: list[Any] = []
    end = time.monotonic() + DEADLINE
    while sum(len(getattr(e, "numbers", "1")) for e in found if isinstance(e, until)) < count:
        assert time.monotonic() < end, found
        select.select([code.fileno()], [], [], 0.1)
        found += code.turn(time.monotonic())


@pytest.mark.parametrize("in_flight", [1, 2])
def test_every_def_of_a_handler_process_may_run_a_loop_of_its_own(
    way: Callable[[], str], in_flight: int
) -> None:
    app, told = everywhere(way, in_flight)
    plans = [
        RoutePlan(name, (name,), pool="p", in_flight=in_flight, serial=in_flight == 1)
        for name in ("words", "actors")
    ]
    code = UserCode.for_routes(app, plans, "spool")
    code.start()
    events(code, Started)
    for number, name in enumerate(("words", "actors"), 1):
        code.submit(bulk(name, number))
        events(code, Settlement)
    code.stop()
    events(code, Ended)
    code.close()
    assert told == [f"{place}: hello" for place in PLACES]


@pytest.mark.parametrize("in_flight", [1, 2])
def test_every_def_may_run_a_loop_of_its_own_in_the_kit(
    way: Callable[[], str], in_flight: int
) -> None:
    app, told = everywhere(way, in_flight)
    ticks: list[str] = []
    app.run_every(60.0)(lambda app: ticks.append(way()))
    with InMemorySystem(app) as system:
        for queue in ("words", "actors"):
            (sent,) = system.deliver(queue, [1])
            system.advance(60.0)
            assert sent.actions == [Actions.ACK]
    assert {line.partition(":")[0] for line in told} == set(PLACES)
    assert ticks == ["hello"] * 3


@pytest.mark.parametrize("in_flight", [1, 2])
@pytest.mark.parametrize("kit", [False, True])
def test_a_thread_that_an_async_handler_asks_for_has_no_running_loop(
    in_flight: int, kit: bool
) -> None:
    app, told = App(), []

    @app.route(["words"], options={Options.IN_FLIGHT: in_flight})
    async def handler(messages: list[Message[Any]]) -> None:
        told.append(await asyncio.to_thread(lambda: asyncio.run(hello())))
        with pytest.raises(KeyError):
            await asyncio.to_thread(dict[str, str]().__getitem__, "missing")

    if kit:
        with InMemorySystem(app) as system:
            (sent,) = system.deliver("words", [1])
            system.advance(60.0)
            assert sent.actions == [Actions.ACK]
    else:
        code = UserCode.for_routes(
            app, (RoutePlan("words", ("words",), in_flight=in_flight),), "spool"
        )
        code.start()
        code.submit(bulk("words", 1))
        events(code, Settlement)
        code.close()
    assert told == ["hello"]


def test_timers_callbacks_and_hooks_of_the_clock_may_run_loops_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app_of_own_loops.py").write_text(
        "import asyncio\n"
        "from actors import App, SpoolConnection\n"
        "told = []\n"
        "async def tell(what): told.append(what)\n"
        "def failed(error, retries): asyncio.run(tell('callback'))\n"
        "app = App(connections=[SpoolConnection(connection_fail_callback=failed)])\n"
        "app.run_on_startup(lambda app: asyncio.run(tell('startup')))\n"
        "app.run_on_shutdown(lambda app: asyncio.run(tell('shutdown')))\n"
        "@app.run_every(3600)\n"
        "def tick(app): asyncio.run(tell('timer'))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    code = ClockCode(Plan("app_of_own_loops:app", "test", (), clock=True))
    code.start()
    events(code, Started)
    import app_of_own_loops  # type: ignore[import-not-found]

    code.connection_failed("spool", "gone", "unreachable", 1)
    end = time.monotonic() + DEADLINE
    while len(app_of_own_loops.told) < 3:
        assert time.monotonic() < end, app_of_own_loops.told
        time.sleep(0.005)
    code.stop()
    events(code, Ended)
    code.close()
    assert sorted(app_of_own_loops.told) == ["callback", "shutdown", "startup", "timer"]


def test_what_awaits_finds_the_running_loop_in_all_of_its_class_that_awaits() -> None:
    app, loops = App(), []

    @app.route(["words"])
    class Actor(HandlerActor):
        def __init__(self) -> None:
            loops.append(asyncio.get_running_loop())

        async def on_start(self) -> None:
            loops.append(asyncio.get_running_loop())

        async def handle(self, messages: list[Message[Any]]) -> None:
            loops.append(asyncio.get_running_loop())

    with InMemorySystem(app) as system:
        system.deliver("words", [1])
        system.advance(60.0)
    assert len(loops) == 3
    assert len(set(loops)) == 1


def test_one_thread_lives_with_a_def_handler_from_its_start_to_its_end(tmp_path: Path) -> None:
    app, threads = App(), []

    @app.route(["words"])
    class Store(HandlerActor):
        def on_start(self) -> None:
            threads.append(threading.get_ident())
            self.db = sqlite3.connect(tmp_path / "words.db")  # refuses any other thread
            self.db.execute("CREATE TABLE words (word)")

        def handle(self, messages: list[Message[Any]]) -> None:
            threads.append(threading.get_ident())
            self.db.executemany("INSERT INTO words VALUES (?)", [(m.body,) for m in messages])
            self.db.commit()

        def on_stop(self) -> None:
            threads.append(threading.get_ident())
            self.db.close()

    code = UserCode.for_routes(app, (RoutePlan("words", ("words",), serial=True),), "spool")
    code.start()
    events(code, Started)
    for number in range(1, 4):
        code.submit(bulk("words", number))
        events(code, Settlement)
    code.stop()
    events(code, Ended)
    code.close()
    assert len(set(threads)) == 1
    with sqlite3.connect(tmp_path / "words.db") as db:
        assert db.execute("SELECT count(*) FROM words").fetchone() == (3,)


def test_each_call_of_a_def_has_a_context_of_its_own() -> None:
    app, found = App(), []
    tenant = contextvars.ContextVar("tenant", default="none")

    @app.route(["words"])
    def handler(messages: list[Message[Any]]) -> None:
        found.append(tenant.get())
        tenant.set("one")

    with InMemorySystem(app) as system:
        system.deliver("words", [1, 2, 3])
        system.advance(60.0)
    assert found == ["none"] * 3


def test_a_def_that_waits_for_its_own_loop_keeps_no_async_neighbour_from_running() -> None:
    """In one pool: the `def` has a thread beside the loop."""
    app, gate = App(), threading.Event()

    @app.route(["slow"])
    def slow(messages: list[Message[Any]]) -> None:
        async def wait() -> None:
            while not gate.is_set():
                await asyncio.sleep(0.005)

        asyncio.run(wait())

    @app.route(["quick"], options={Events.ON_EXCEPTION: Actions.DEAD_LETTER})
    async def quick(messages: list[Message[Any]]) -> None:
        gate.set()

    plans = (
        RoutePlan("slow", ("slow",), pool="p", serial=True),
        RoutePlan("quick", ("quick",), pool="p", in_flight=4),
    )
    code = UserCode.for_routes(app, plans, "spool")
    code.start()
    events(code, Started)
    code.submit(bulk("slow", 1))
    code.submit(bulk("quick", 2))
    events(code, Settlement, 2)
    code.close()
