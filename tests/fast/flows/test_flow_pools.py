"""Routes of one pool: fewer processes, and no route suffers for another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import Actions, App, HandlerActor, Message, Options, SpoolConnection
from actors.errors import InvalidRoute
from actors.plan.build import build_plan
from actors.testing import InMemorySystem, crash
from tests.support.flow import ACK, DEAD_LETTER, KINDS, app_on

both_kinds = pytest.mark.parametrize("kind", KINDS)
POOL = {Options.POOL: "small"}


def handlers(system: InMemorySystem) -> list[dict[str, Any]]:
    return [actor for actor in system.status()["actors"] if actor["role"] == "handler"]


@both_kinds
def test_fifty_routes_work_in_one_process(kind: str) -> None:
    app = app_on(kind)
    queues = [f"q{number}" for number in range(50)]
    for number, queue in enumerate(queues):

        def handle(messages: list[Message[Any]]) -> None:
            pass

        async def handle_async(messages: list[Message[Any]]) -> None:
            await asyncio.sleep(0.1)

        app.route([queue], options=POOL)(handle_async if number % 2 else handle)
    with InMemorySystem(app) as system:
        sent = [sent for queue in queues for sent in system.deliver(queue, range(20))]
        system.advance(60.0)
        assert all(message.actions == [ACK] for message in sent)
        (handler,) = handlers(system)
        assert handler["name"].endswith("/small/1")
        assert handler["route"] == ", ".join(queues)


def test_a_pool_has_the_concurrency_that_one_of_its_routes_names() -> None:
    app = app_on("spool")
    for queue, options in (("a", POOL), ("b", POOL | {Options.CONCURRENCY: 3}), ("c", {})):

        @app.route([queue], options=options)
        def handle(messages: list[Message[Any]]) -> None:
            pass

    with InMemorySystem(app) as system:
        names = [handler["name"].partition("/")[2] for handler in handlers(system)]
        assert names == ["small/1", "small/2", "small/3", "c/1"]


def test_routes_of_one_pool_that_name_several_are_refused() -> None:
    app = app_on("spool")
    for queue, number in (("a", 1), ("b", 2)):

        @app.route([queue], options=POOL | {Options.CONCURRENCY: number})
        def handle(messages: list[Message[Any]]) -> None:
            pass

    with pytest.raises(InvalidRoute, match=r"a and b share pool 'small', .* is 1 and 2"):
        build_plan(app)


def test_a_pool_named_like_a_route_outside_it_is_refused() -> None:
    app = app_on("spool")
    for queue, options in (("small", {}), ("b", POOL)):

        @app.route([queue], options=options)
        def handle(messages: list[Message[Any]]) -> None:
            pass

    with pytest.raises(InvalidRoute, match="route b: pool 'small' has the name of a route"):
        build_plan(app)


def test_routes_of_several_connections_are_pooled_for_each() -> None:
    app = App(connections=[SpoolConnection(name=name, path=f"{name}.db") for name in "xy"])
    for queue, connection in (("a", "x"), ("b", "x"), ("c", "y")):

        @app.route([queue], connection=connection, options=POOL)
        def handle(messages: list[Message[Any]]) -> None:
            pass

    with InMemorySystem(app) as system:
        told = [(handler["name"], handler["route"]) for handler in handlers(system)]
        assert told == [("x/small/1", "a, b"), ("y/small/1", "c")]


def test_each_route_has_an_instance_of_its_own_and_hooks_run_once() -> None:
    app = app_on("spool")
    calls: list[str] = []

    @app.run_on_startup
    def begin(app: App) -> None:
        calls.append("hook")

    class Handle(HandlerActor):
        def on_start(self) -> None:
            self.handled = 0
            calls.append("on_start")

        def handle(self, messages: list[Message[Any]]) -> None:
            self.handled += len(messages)

        def on_stop(self) -> None:
            calls.append(f"on_stop after {self.handled}")

    for queue in "ab":
        app.route([queue], options=POOL)(Handle)
    with InMemorySystem(app) as system:
        system.deliver("a", range(2))
        system.deliver("b", range(5))
    assert calls == ["hook", "on_start", "on_start", "on_stop after 2", "on_stop after 5"]


def test_one_that_cannot_start_keeps_its_pool_waiting_and_is_named() -> None:
    app = app_on("spool")
    begun: list[str] = []

    class Sound(HandlerActor):
        def on_start(self) -> None:
            begun.append("sound")

        def handle(self, messages: list[Message[Any]]) -> None:
            pass

    class Broken(Sound):
        def on_start(self) -> None:
            begun.append("broken")
            if len(begun) < 4:
                raise OSError("no index")

    app.route(["a"], options=POOL)(Sound)
    app.route(["b"], options=POOL)(Broken)
    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("a", [1])
        assert sent.actions == []
        assert handlers(system)[0]["reason"] == "route b: on_start raised OSError: no index"
        system.advance(60.0)
        assert sent.actions == [ACK]
        assert begun == ["sound", "broken", "broken", "broken"]


@both_kinds
def test_a_message_that_kills_the_process_harms_no_other_route(kind: str) -> None:
    app = app_on(kind)

    @app.route(["bad"], options=POOL | {Options.BULK_SIZE: 8, Options.BULK_FLUSH_INTERVAL: 0.1})
    async def bad(messages: list[Message[int]]) -> None:
        await asyncio.sleep(0.1)
        if any(message.body == 3 for message in messages):
            crash()

    @app.route(["good"], options=POOL)
    async def good(messages: list[Message[int]]) -> None:
        await asyncio.sleep(0.3)

    with InMemorySystem(app) as system:
        fine = system.deliver("good", range(20))
        sent = system.deliver("bad", range(8))
        system.advance(600.0)
        assert all(message.actions[-1] == ACK for message in fine)
        assert [number for number, m in enumerate(sent) if m.actions[-1] == DEAD_LETTER] == [3]
        assert all(Actions.DEAD_LETTER not in message.actions for message in fine)


def test_a_bulk_that_takes_too_long_costs_the_other_routes_nothing_but_time() -> None:
    app = app_on("spool")

    @app.route(["slow"], options=POOL | {Options.TIMEOUT: 30.0})
    async def slow(messages: list[Message[int]]) -> None:
        await asyncio.sleep(1e9)

    attempts: list[int] = []

    @app.route(["good"], options=POOL)
    async def good(messages: list[Message[int]]) -> None:
        attempts.extend(message.attempts for message in messages)
        if messages[0].attempts == 0:
            await asyncio.sleep(100.0)

    with InMemorySystem(app) as system:
        (late,) = system.deliver("slow", [1])
        (fine,) = system.deliver("good", [1])
        system.advance(40.0)
        assert "TIMEOUT, 30 s" in late.reason
        assert fine.actions == [ACK]
        assert attempts == [0, 1]
