"""The test kit itself: what design and README show of it, and what it does not let pass."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import App, HandlerActor, Message, Options
from actors.testing import InMemorySystem, crash
from tests.component.flow import ACK, REQUEUE, app_on


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
