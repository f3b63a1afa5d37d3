"""Connections that break, processes that die, starts that fail: who is restarted, and when."""

from __future__ import annotations

import re
from typing import Any

import pytest

from actors import AMQPConnection, App, HandlerActor, Message, Options
from actors.plan.settings import Settings
from actors.roles.protocol import ChildExited, Failed, Range, Settlement
from actors.testing import InMemorySystem
from tests.support.flow import ACK, KINDS, app_on

both_kinds = pytest.mark.parametrize("kind", KINDS)


def simple(kind: str, **options: Any) -> App:
    app = app_on(kind)

    @app.route(["q"], options=options)
    async def handle(messages: list[Message[Any]]) -> None:
        pass

    return app


def failures(system: InMemorySystem) -> list[int]:
    return [message.code for message in system.stage.outbox if isinstance(message, Failed)]


@both_kinds
def test_a_lost_connection_comes_back_with_backoff(kind: str) -> None:
    with InMemorySystem(simple(kind, bulk_size=10)) as system:
        sent = system.deliver("q", [1, 2])
        system.world.reachable = False
        system.disconnect()
        assert system.status()["ready"] is False
        system.advance(120.0)
        (connection,) = [a for a in system.status()["actors"] if a["role"] == "connection"]
        assert connection["state"] == "reconnecting"
        assert re.fullmatch(r"nobody answers, tried again in \d+ s", connection["reason"])
        system.world.reachable = True
        system.advance(30.0)
        assert system.status()["ready"] is True
        system.advance(60.0)
        assert [one.actions for one in sent] == [[ACK], [ACK]]
        assert connection["restarts"] == 0  # its process lives


def test_the_backoff_grows_to_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []
    with InMemorySystem(simple("amqp")) as system:
        system.world.reachable = False
        (client,) = system.world.clients.values()
        opened = client.open

        def open() -> None:
            attempts.append(system.stage.now)
            opened()

        monkeypatch.setattr(client, "open", open)
        system.disconnect()
        system.advance(600.0)
    waits = [later - sooner for sooner, later in zip([0.0, *attempts], attempts, strict=False)]
    for wait, bound in zip(waits, [1, 2, 4, 8, 16, *[30] * 99], strict=False):
        assert 0.1 * bound <= wait <= bound


def test_a_lost_queue_stops_no_other() -> None:
    app = app_on("amqp")
    seen: list[str] = []

    @app.route(["a", "b"])
    async def handle(messages: list[Message[str]]) -> None:
        seen.append(messages[0].body)

    with InMemorySystem(app) as system:
        system.world.missing.add("a")
        system.world.lose_queue("a", "deleted")
        system.deliver("b", ["in time"])
        assert seen == ["in time"]
        system.deliver("a", ["later"])
        assert system.status()["ready"] is False
        system.advance(6.0)  # a round later it is still said why
        (connection,) = (a for a in system.status()["actors"] if a["role"] == "connection")
        assert connection["reason"].startswith("queue a: ")
        system.world.missing.clear()
        system.advance(61.0)
        assert seen == ["in time", "later"]
        assert system.status()["ready"] is True


def test_a_queue_that_never_was_is_a_bad_configuration() -> None:
    with InMemorySystem(simple("amqp")) as system:
        system.world.missing.add("q")
        system.kill("supervisor")
        system.advance(5.0)
        assert failures(system)[:1] == [78]
        assert system.status()["state"] == "failed"


def test_who_does_not_wait_gives_up_at_once() -> None:
    with InMemorySystem(simple("amqp"), settings=Settings(wait=False)) as system:
        system.world.reachable = False
        system.kill("supervisor")
        system.advance(5.0)
        assert failures(system)[:1] == [69]


@both_kinds
@pytest.mark.parametrize("role", ["supervisor", "connection", "batcher", "handler"])
def test_whoever_is_killed_no_message_is_lost(kind: str, role: str) -> None:
    with InMemorySystem(simple(kind, bulk_size=5, bulk_flush_interval=1.0)) as system:
        sent = system.deliver("q", [1, 2, 3])
        system.kill(role)
        sent += system.deliver("q", [4])
        system.advance(30.0)
        assert [one.actions[-1] for one in sent] == [ACK] * 4
        status = system.status()
        assert status["ready"] is True
        assert status["totals"]["in_flight"] == 0


@pytest.mark.parametrize(
    ("role", "restarted"),
    [
        ("connection", {"connection", "batcher", "handler"}),
        ("batcher", {"batcher", "handler"}),
        ("handler", {"handler"}),
    ],
)
def test_a_death_takes_with_it_what_was_started_after(role: str, restarted: set[str]) -> None:
    with InMemorySystem(simple("spool")) as system:
        system.kill(role)
        system.advance(5.0)
        actors = system.status()["actors"]
        assert {actor["role"] for actor in actors if actor["restarts"]} == restarted


def test_handlers_are_restarted_one_by_one() -> None:
    with InMemorySystem(simple("spool", concurrency=3)) as system:
        victim = system.stage.named("handler")[1]
        system.stage.kill(victim, "killed by the test")
        system.advance(5.0)
        handlers = [a for a in system.status()["actors"] if a["role"] == "handler"]
        assert sorted(handler["restarts"] for handler in handlers) == [0, 0, 1]


def test_a_handler_that_dies_idle_again_and_again_is_given_up() -> None:
    with InMemorySystem(simple("spool")) as system:
        for _ in range(5):
            system.kill("handler")
            system.advance(5.0)
        assert failures(system) == []
        system.kill("handler")
        system.advance(5.0)
        assert failures(system)[:1] == [1]
        assert system.status()["state"] == "failed"


def test_a_death_that_is_told_twice_restarts_once() -> None:
    with InMemorySystem(simple("spool")) as system:
        (handler,) = system.stage.named("handler")
        (pipeline,) = system.stage.named("pipeline")
        system.kill("handler")
        system.advance(5.0)
        system.stage.post("stage", pipeline, ChildExited(handler, "told again"))
        system.advance(5.0)
        (status,) = [a for a in system.status()["actors"] if a["role"] == "handler"]
        assert (status["restarts"], status["state"]) == (1, "running")


@both_kinds
def test_a_stale_settlement_is_counted_and_dropped(kind: str) -> None:
    with InMemorySystem(simple(kind, bulk_size=10)) as system:
        (sent,) = system.deliver("q", [1])
        (connection,) = system.stage.named("connection")
        (batcher,) = system.stage.named("batcher")
        system.stage.post(batcher, connection, Settlement(4711, (), (Range(1, 1, 1, 0),)))
        system.stage.post("spool/q/1#0", batcher, Settlement(0, (1,), (Range(1, 1, 1, 0),)))
        system.run_until_idle()
        assert sent.actions == []
        assert system.status()["totals"]["stale"] == 2


def test_a_start_that_fails_fetches_nothing_and_is_tried_again() -> None:
    app = app_on("spool", seen=[])
    starts: list[float] = []

    class Index(HandlerActor):
        async def on_start(self) -> None:
            starts.append(system.stage.now)
            if len(starts) < 4:
                raise ConnectionError("the index is away")

        async def handle(self, messages: list[Message[int]]) -> None:
            self.app["seen"].append(messages[0].body)

    app.route(["q"])(Index)
    system = InMemorySystem(app, state={"seen": []}, raise_errors=False)
    with system:
        (sent,) = system.deliver("q", [1])
        status = system.status()
        assert (status["ready"], status["totals"]["received"]) == (False, 0)
        (handler,) = [a for a in status["actors"] if a["role"] == "handler"]
        assert (handler["state"], handler["restarts"]) == ("waiting", 0)
        assert "the index is away" in handler["reason"]
        system.advance(30.0)
        assert len(starts) == 4
        assert sent.actions == [ACK]
        assert system.status()["ready"] is True


def test_a_burst_does_not_wait_for_a_handler_that_never_starts() -> None:
    app = app_on("spool")

    class Index(HandlerActor):
        async def on_start(self) -> None:
            raise ConnectionError("the index is away")

        async def handle(self, messages: list[Message[int]]) -> None: ...

    app.route(["q"])(Index)
    with InMemorySystem(app, settings=Settings(burst=True), raise_errors=False) as system:
        system.deliver("q", [1])
        system.advance(60.0)
        (failed,) = {m.reason for m in system.stage.outbox if isinstance(m, Failed)}
        cause = "route q: on_start raised ConnectionError: the index is away"
        assert f"its start failed 5 times: {cause}" in failed
        assert failures(system)[:1] == [1]


def test_status_has_the_shape_that_is_promised() -> None:
    app = App(connections=[AMQPConnection(host="memory", name="one")])

    @app.route(["q"], options={Options.CONCURRENCY: 2})
    async def handle(messages: list[Message[int]]) -> None:
        pass

    @app.run_every(60.0)
    async def tick(app: App) -> None:
        pass

    with InMemorySystem(app) as system:
        system.deliver("q", [1, 2])
        status = system.status()
    assert set(status) == {
        "app", "name", "version", "state", "ready", "since", "actors", "routes", "totals",
    }  # fmt: skip
    assert (status["state"], status["ready"]) == ("running", True)
    roles = [actor["role"] for actor in status["actors"]]
    assert sorted(roles) == [
        "batcher", "clock", "connection", "handler", "handler", "supervisor", "supervisor",
    ]  # fmt: skip
    for actor in status["actors"]:
        assert set(actor) == {
            "role", "name", "pid", "host", "route", "state", "reason", "restarts",
        }  # fmt: skip
        assert actor["state"] == "running"
    (route,) = status["routes"]
    counts = {"received": 2, "acked": 2, "rejected": 0, "requeued": 0, "retried": 0, "dead": 0}
    assert route == {"name": "q", **counts, "in_flight": 0, "oldest_s": 0.0, "last_error": None}
    assert status["totals"] == {
        **counts, "stale": 0, "replies_lost": 0, "in_flight": 0,
    }  # fmt: skip
