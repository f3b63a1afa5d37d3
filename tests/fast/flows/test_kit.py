"""The test kit itself: what design and README show of it, and what it does not let pass."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from actors import Actions, App, Events, HandlerActor, Message, Options
from actors.testing import InMemorySystem, crash
from tests.support.flow import ACK, KINDS, REQUEUE, app_on


def test_the_example_of_the_readme() -> None:
    app = App()

    @app.route(["words_to_index"], options={Options.BULK_SIZE: 2})
    async def index(messages: list[Message[str]]) -> None:
        app["db"].extend(message.body for message in messages)

    fake: list[str] = []
    with InMemorySystem(app, state={"db": fake}) as system:
        sent = system.deliver(
            "words_to_index", [b'"a"', b'"b"'], headers=None, attempts=0, redelivered=False
        )
        system.advance(1.0)
        assert sent[0].actions == [ACK]
        system.kill("handler", when=lambda m: m.body == "d")
        sent = system.deliver("words_to_index", ["c", "d"])
        system.disconnect()
        system.advance(60.0)
        assert [one.actions[-1] for one in sent] == [ACK, ACK]
        assert sent[1].attempts == 2
        assert system.published() == []
        assert system.dead("words_to_index") == []
    assert sorted(fake) == ["a", "b", "c", "d"]
    assert dict(app) == {}


def test_state_replaces_the_apps_and_skips_the_hooks() -> None:
    app, ran = App(), []

    @app.run_on_startup
    async def connect(app: App) -> None:
        ran.append("startup")
        app["db"] = "real"

    @app.run_on_shutdown
    async def close(app: App) -> None:
        ran.append("shutdown")

    @app.route(["q"])
    async def handle(messages: list[Message[Any]]) -> None:
        ran.append(app["db"])

    with InMemorySystem(app, state={"db": "fake"}) as system:
        system.deliver("q", [1])
    assert ran == ["fake"]
    with InMemorySystem(app) as system:
        system.deliver("q", [1])
    assert ran == ["fake", "startup", "real", "shutdown"]


def test_errors_that_nobody_read_are_raised_at_the_end() -> None:
    app = app_on("amqp")

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        messages[0].accept()
        raise ValueError(f"number {messages[0].body}")

    with pytest.raises(ValueError, match="number 1"), InMemorySystem(app) as system:
        system.deliver("q", [1])
    with pytest.raises(BaseExceptionGroup), InMemorySystem(app) as system:
        system.deliver("q", [1, 2])
    with InMemorySystem(app) as system:
        system.deliver("q", [1])
        assert [str(error) for error in system.errors("q")] == ["number 1"]
    with InMemorySystem(app, raise_errors=False) as system:
        system.deliver("q", [1])


def test_a_failing_test_is_not_hidden_by_the_handlers_errors() -> None:
    app = app_on("amqp")

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        raise ValueError("the handler's")

    def test() -> None:
        with InMemorySystem(app) as system:
            system.deliver("q", [1])
            raise AssertionError("the test's")

    with pytest.raises(AssertionError, match="the test's"):
        test()


def test_crash_is_a_lost_handler_and_no_error() -> None:
    app, calls = app_on("spool"), []

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        calls.append(messages[0].attempts)
        if len(calls) == 1:
            crash()

    with InMemorySystem(app) as system:
        (sent,) = system.deliver("q", [1])
        system.advance(5.0)
        assert calls == [0, 1]
        assert sent.actions == [ACK]
        assert system.errors("q") == []


def test_a_handler_is_killed_so_many_times() -> None:
    app = app_on("spool")

    @app.route(["q"], options={Options.MAX_CRASHES: 3})
    async def handle(messages: list[Message[int]]) -> None:
        pass

    with InMemorySystem(app) as system:
        system.kill("handler", when=lambda message: message.body == 2, times=4)
        sent = system.deliver("q", [1, 2, 3])
        system.advance(60.0)
        assert [one.dead for one in sent] == [False, True, False]
        assert system.dead("q")[0].reason.endswith("killed by the test")


def test_attempts_and_headers_are_as_delivered() -> None:
    for kind in ("amqp", "spool"):
        app = app_on(kind)
        seen: list[Any] = []

        @app.route(["q"])
        async def handle(messages: list[Message[Any]], seen: list[Any] = seen) -> None:
            (message,) = messages
            seen.append((message.attempts, message.redelivered, message.headers.get("a")))

        with InMemorySystem(app) as system:
            system.deliver("q", [1], headers={"a": "b"})
            system.deliver("q", [1], attempts=3)
            system.deliver("q", [1], redelivered=True)
        assert seen == [(0, False, "b"), (3, True, None), (1, True, None)]


def test_names_that_nobody_has_are_refused() -> None:
    app = app_on("spool")

    @app.route(["q"])
    async def handle(messages: list[Message[Any]]) -> None:
        pass

    with InMemorySystem(app) as system:
        with pytest.raises(ValueError, match="no queue 'p'; there are: q"):
            system.deliver("p", [1])
        with pytest.raises(ValueError, match="no queue 'p'"):
            system.dead("p")
        with pytest.raises(ValueError, match="no route 'p'"):
            system.errors("p")
        with pytest.raises(ValueError, match="no role 'worker'; there are: batcher"):
            system.kill("worker")
        with pytest.raises(ValueError, match="only a handler sees messages"):
            system.kill("batcher", when=lambda message: True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"bodies": b'{"id": 1}'}, r"bodies must be a list of them, not one alone: \[b'"),
        ({"bodies": "text"}, r"bodies must be a list of them, not one alone: \['text'\]"),
        ({"bodies": {"id": 1}}, r"bodies must be a list of them, not one alone: \[\{'id': 1\}\]"),
        ({"headers": [1]}, "headers must be a mapping, not list"),
        ({"attempts": "3"}, "attempts must be a whole number, not str"),
    ],
)
def test_what_no_queue_could_hold_is_not_delivered(arguments: dict[str, Any], line: str) -> None:
    app = app_on("spool")

    @app.route(["q"])
    def handle(messages: list[Message[Any]]) -> None: ...

    with InMemorySystem(app) as system:
        with pytest.raises(TypeError, match=f"^{line}"):
            system.deliver("q", **{"bodies": [1], **arguments})
        with pytest.raises(TypeError, match=r"^seconds must be a number of seconds, not str"):
            system.advance("1")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"^seconds must be 0 to"):
            system.advance(-1)


def test_handlers_and_timers_live_in_virtual_time() -> None:
    app, times = app_on("spool"), []

    @app.run_every(3600.0)
    async def tick(app: App) -> None:
        times.append(system.stage.now)

    class Sleeper(HandlerActor):
        async def handle(self, messages: list[Message[int]]) -> None:
            await asyncio.sleep(86400.0 / 100)

    app.route(["q"])(Sleeper)
    system = InMemorySystem(app)
    with system:
        (sent,) = system.deliver("q", [1])
        system.advance(7200.0)
        assert sent.actions == [ACK]
    assert times == [0.0, 3600.0, 7200.0]


def test_the_order_of_turns_is_drawn_from_the_seed() -> None:
    def play(seed: int) -> list[int]:
        app, seen = app_on("amqp"), []

        @app.route(["a", "b"], options={Options.CONCURRENCY: 4})
        async def handle(messages: list[Message[int]]) -> None:
            seen.append(messages[0].body)

        with InMemorySystem(app, seed=seed) as system:
            for number in range(0, 20, 2):
                system.deliver("a", [number, number])
                system.deliver("b", [number + 1, number + 1])
        return seen

    assert play(1) == play(1)


def test_history_is_shown_to_people() -> None:
    app = app_on("spool")

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        if not messages[0].redelivered:
            messages[0].reject()

    with InMemorySystem(app) as system:
        (sent,) = system.deliver("q", [1])
        assert repr(sent) == "<Sent 1 ['requeue', 'ack']>"
        assert sent.actions == [REQUEUE, ACK]


@pytest.mark.parametrize(("kind", "seen"), [("spool", [None, 2, 2, 2, 0]), ("amqp", [None] * 5)])
def test_what_waits_in_a_spool_is_counted_every_ten_seconds(
    kind: str, seen: list[int | None]
) -> None:
    app = app_on(kind, prefetch=1)

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        await asyncio.sleep(4.0)

    with InMemorySystem(app) as system:
        system.deliver("q", [1, 2, 3])
        system.advance(1.0)
        told = []
        for seconds in (1.0, 1.0, 11.0, 1.0, 1.0):
            told.append(system.status()["routes"][0].get("waiting"))
            system.advance(seconds)
        assert told == seen


# ── within an async test, and outside of virtual time ──────────────────────────


def sleeps(messages: list[Any]) -> Any:
    return asyncio.sleep(30.0)


async def sleeps_async(messages: list[Any]) -> None:
    await asyncio.sleep(30.0)


async def has_tasks(messages: list[Any]) -> None:
    async with asyncio.timeout(40.0), asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(20.0))
        group.create_task(asyncio.to_thread(len, ()))
    assert asyncio.current_task() is not None


def runs_a_loop(messages: list[Any]) -> None:
    assert asyncio.run(asyncio.sleep(0, 1)) == 1


class Acting(HandlerActor):
    async def on_start(self) -> None:
        await asyncio.sleep(1.0)

    async def handle(self, messages: list[Any]) -> None:
        await asyncio.sleep(1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handler", [sleeps, sleeps_async, has_tasks, runs_a_loop, Acting])
@pytest.mark.parametrize("in_flight", [1, 2])
def test_the_kit_works_within_an_async_test_which_goes_on_as_before(
    kind: str, handler: Any, in_flight: int
) -> None:
    async def test() -> list[Any]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        ticks = asyncio.create_task(asyncio.sleep(0, "the test's own task"))
        app = app_on(kind)
        app.route(["q"], options={Options.IN_FLIGHT: in_flight})(handler)
        app.run_on_startup(lambda app: asyncio.sleep(1.0))
        began = loop.time()
        with InMemorySystem(app) as system:
            system.advance(5.0)
            (sent,) = system.deliver("q", [1])
            system.advance(60.0)
            assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
            assert system.status()["ready"]
        assert loop.time() - began < 5.0
        assert await ticks == "the test's own task"
        assert (asyncio.get_running_loop(), asyncio.current_task()) == (loop, task)
        return sent.actions

    assert asyncio.run(test()) == [ACK]


def test_what_a_handler_raises_leaves_the_loop_of_an_async_test_as_it_was() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        app = App()

        @app.route(["q"])
        async def handle(messages: list[Any]) -> None:
            raise ValueError("of the handler")

        with pytest.raises(ValueError, match="of the handler"), InMemorySystem(app) as system:
            system.deliver("q", [1])
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)

    asyncio.run(test())


async def connects(server: socket.socket) -> None:
    await asyncio.open_connection(*server.getsockname())


async def receives(server: socket.socket) -> None:
    server.setblocking(False)
    await asyncio.get_running_loop().sock_accept(server)


async def serves(server: socket.socket) -> None:
    await asyncio.start_server(lambda reader, writer: None, sock=server)


async def runs_a_program(server: socket.socket) -> None:
    await asyncio.create_subprocess_exec("true", stdout=asyncio.subprocess.PIPE)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("wait", [connects, receives, serves, runs_a_program])
@pytest.mark.parametrize("where", ["handler", "hook"])
def test_to_wait_for_a_socket_says_that_virtual_time_has_none(
    wait: Any, where: str, server: socket.socket
) -> None:
    app = App()

    @app.route(["q"], options={Events.ON_EXCEPTION: Actions.DEAD_LETTER})
    async def handle(messages: list[Any]) -> None:
        await wait(server)

    if where == "hook":
        app.run_on_startup(lambda app: wait(server))
    with InMemorySystem(app, raise_errors=False) as system:
        system.deliver("q", [1])
        first, *_ = system.errors("q")
    assert isinstance(first, RuntimeError)
    assert "waits for no socket and no program: give the handler a fake" in str(first)


def in_a_thread(messages: list[Any]) -> Any:
    async def wait() -> None:
        done = asyncio.get_running_loop().create_future()
        threading.Thread(target=len, args=("",)).start()  # its answer takes real time
        await done

    return wait()


async def for_nobody(messages: list[Any]) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("handler", [in_a_thread, for_nobody])
@pytest.mark.parametrize("in_flight", [1, 2])
def test_who_waits_for_what_never_comes_is_named_at_the_end(handler: Any, in_flight: int) -> None:
    app = App()
    app.route(["q"], options={Options.IN_FLIGHT: in_flight})(handler)
    with (
        pytest.raises(RuntimeError, match=r"^route q: .* still waits"),
        InMemorySystem(app) as system,
    ):
        assert system.deliver("q", [1])[0].actions == []
    with InMemorySystem(app, raise_errors=False) as system:
        system.deliver("q", [1])


def test_a_handler_that_the_test_itself_wakes_is_not_stuck() -> None:
    app, gates = App(), []

    @app.route(["q"])
    async def handle(messages: list[Any]) -> None:
        gates.append(asyncio.Event())
        await gates[0].wait()

    with InMemorySystem(app) as system:
        (sent,) = system.deliver("q", [1])
        gates[0].set()
        system.advance(1.0)
        assert sent.actions == [ACK]
