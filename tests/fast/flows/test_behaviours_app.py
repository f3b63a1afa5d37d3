"""What async-worker's tests prove of timers, state and hooks, under the same numbers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import Actions, App, Options
from actors.testing import InMemorySystem


def new_app() -> App:
    app = App(host="127.0.0.1", user="guest", password="guest", prefetch_count=128)

    @app.route(["queue"])
    async def handler(messages: Any) -> None: ...

    return app


def test_a_timer_at_its_limit_waits_for_a_run_to_end() -> None:
    """B55"""
    app, runs = new_app(), []

    @app.run_every(1, options={Options.MAX_CONCURRENCY: 2})
    async def tick(app: App) -> None:
        runs.append("begin")
        await asyncio.sleep(10)
        runs.append("end")

    with InMemorySystem(app) as system:
        system.advance(9.5)
        assert runs == ["begin"] * 2
        system.advance(3)
        assert (runs.count("begin"), runs.count("end")) == (4, 2)


def test_a_run_that_fails_gives_its_place_to_the_next() -> None:
    """B55"""
    app, runs = new_app(), []

    @app.run_every(1)
    async def tick(app: App) -> None:
        runs.append(app)
        raise ValueError("each time")

    with InMemorySystem(app, raise_errors=False) as system:
        system.advance(3.5)
    assert runs == [app] * 4


def test_the_end_waits_for_runs_in_hand_and_begins_no_more() -> None:
    """B56"""
    app, runs = new_app(), []

    @app.run_every(1, options={Options.MAX_CONCURRENCY: 5})
    async def tick(app: App) -> None:
        runs.append("begin")
        await asyncio.sleep(2.5)
        runs.append("end")

    with InMemorySystem(app) as system:
        system.advance(1.5)
        assert runs == ["begin"] * 2
    assert runs == ["begin"] * 2 + ["end"] * 2


def test_the_state_is_frozen_once_the_hooks_have_run() -> None:
    """B57"""
    app = App(host="127.0.0.1", user="guest", password="guest", prefetch_count=128)

    @app.run_on_startup
    async def connect(app: App) -> None:
        app["db"] = "connected"

    @app.route(["queue"])
    async def handler(messages: Any) -> None:
        assert app["db"] == "connected"
        app["db"] = "another"

    with InMemorySystem(app, raise_errors=False) as system:
        system.deliver("queue", [1])
        error = system.errors("queue")[0]
    assert isinstance(error, RuntimeError)
    with pytest.raises(RuntimeError, match=r"app\['db'\]: the app has started"):
        raise error


def test_hooks_run_in_their_order_with_the_app_before_the_first_message() -> None:
    """B58, D1.8: there a first message could come before the hooks."""
    app = App(host="127.0.0.1", user="guest", password="guest", prefetch_count=128)
    calls: list[Any] = []

    @app.run_on_startup
    async def first(app: App) -> None:
        await asyncio.sleep(5)
        calls.append(("first", app))

    @app.run_on_startup
    def second(app: App) -> None:
        calls.append(("second", app))

    @app.route(["queue"])
    async def handler(messages: Any) -> None:
        calls.append("message")

    @app.run_on_shutdown
    async def last(app: App) -> None:
        calls.append(("last", app))

    with InMemorySystem(app) as system:
        (sent,) = system.deliver("queue", [1])
        assert calls == []
        system.advance(5)
        assert sent.actions == [Actions.ACK]
    assert calls == [("first", app), ("second", app), "message", ("last", app)]
