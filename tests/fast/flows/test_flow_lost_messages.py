"""Nothing that actors say to each other is trusted to arrive, or to arrive in time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from actors import App, Message, Options
from actors.plan.plan import PipelinePlan, RoutePlan
from actors.roles.connection import CUT_OFF
from actors.roles.context import Context
from actors.roles.handler import Handler
from actors.roles.protocol import (
    ActorMessage,
    Bulk,
    Configure,
    Connect,
    ConnectionLost,
    Deliveries,
    Drain,
    Drained,
    HandlerLost,
    Neighbours,
    NotReady,
    Outstanding,
    Ready,
    Settlement,
)
from actors.testing import InMemorySystem
from tests.support.flow import ACK, KINDS, REQUEUE, Nth, app_on, meddled

Seen = list[tuple[int, bool]]


def recording(kind: str, seen: Seen) -> App:
    app = app_on(kind)

    @app.route(["q"], options={Options.BULK_SIZE: 2, Options.BULK_FLUSH_INTERVAL: 0.5})
    async def handle(messages: list[Message[int]]) -> None:
        seen.extend((message.body, message.redelivered) for message in messages)

    return app


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "lost",
    [Configure, Connect, Ready, NotReady, Neighbours, Deliveries, Bulk, Settlement, Outstanding],
    ids=lambda lost: lost.__name__,
)
@pytest.mark.parametrize("numbers", [(1,), (2,), (3,), (1, 2, 3)])
def test_any_message_may_get_lost(
    kind: str, lost: type[ActorMessage], numbers: tuple[int, ...]
) -> None:
    if lost is Configure and 1 in numbers:
        numbers = tuple(number + 1 for number in numbers)  # the first is the launcher's own
    seen: Seen = []
    with meddled(recording(kind, seen), Nth(lost, None, *numbers)) as system:
        sent = system.deliver("q", [1, 2, 3, 4, 5])
        system.advance(60.0)
        assert {one.actions[-1] for one in sent} == {ACK}
        assert {body for body, _ in seen} == {1, 2, 3, 4, 5}
        assert system.status()["totals"]["in_flight"] == 0


@pytest.mark.parametrize("lost", [HandlerLost, ConnectionLost], ids=lambda lost: lost.__name__)
@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 2)])
def test_the_news_of_a_loss_may_get_lost(
    lost: type[ActorMessage], numbers: tuple[int, ...]
) -> None:
    seen: Seen = []
    with meddled(recording("amqp", seen), Nth(lost, None, *numbers)) as system:
        system.kill("handler", when=lambda m: m.body == 2)
        sent = system.deliver("q", [1, 2])
        system.disconnect()
        system.advance(60.0)
        assert [one.actions[-1] for one in sent] == [ACK, ACK]


@pytest.mark.parametrize("lost", [Drain, Drained], ids=lambda lost: lost.__name__)
@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_drain_ends_whatever_of_it_gets_lost(lost: type[ActorMessage], number: int) -> None:
    seen: Seen = []
    system = meddled(recording("spool", seen), Nth(lost, None, number))
    with system:
        (sent,) = system.deliver("q", [1])
    assert sent.actions == [ACK]
    assert any(isinstance(message, Drained) for message in system.stage.outbox)


def test_a_word_that_overtakes_the_first_one_hurts_nobody() -> None:
    seen: Seen = []
    with meddled(recording("amqp", seen), Nth(Configure, 0.1, 2, 3, 4, 5)) as system:
        (sent,) = system.deliver("q", [1])
        system.status()
        system.advance(30.0)
        assert sent.actions == [ACK]


def test_an_introduction_that_was_overtaken_buries_nobody() -> None:
    """It comes when a handler of which it does not know is at work."""
    app = app_on("amqp")
    seen: list[int] = []

    @app.route(["q"], options={Options.CONCURRENCY: 3, Options.IN_FLIGHT: 1})
    async def handle(messages: list[Message[int]]) -> None:
        seen.append(messages[0].body)
        await asyncio.sleep(5.0)

    for number in range(1, 8):
        seen.clear()
        with meddled(app, Nth(Neighbours, 2.0, number)) as system:
            sent = system.deliver("q", list(range(9)))
            system.advance(20.0)
            assert [one.actions for one in sent] == [[ACK]] * 9
            assert sorted(seen) == list(range(9))


@pytest.mark.parametrize("late", [1.0, 3.0, 4.5, 5.0, 5.9, 6.1, 7.0, 30.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_that_was_given_up_is_not_handed_out_twice(kind: str, late: float) -> None:
    """Wherever it arrives: before it is given up, before the batcher heard of it, or after."""
    seen: Seen = []
    with meddled(recording(kind, seen), Nth(Deliveries, late)) as system:
        (sent,) = system.deliver("q", [1])
        system.advance(60.0)
        assert len(seen) == 1
        assert sent.actions in ([ACK], [REQUEUE, ACK])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ["batcher", "connection", "supervisor"])
def test_what_a_handler_had_when_another_died_comes_again_as_redelivered(
    kind: str, role: str
) -> None:
    app, seen = app_on(kind), []

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        seen.append((messages[0].redelivered, messages[0].attempts))
        await asyncio.sleep(10.0 if len(seen) == 1 else 0.0)

    with InMemorySystem(app) as system:
        (sent,) = system.deliver("q", [1])
        system.kill(role)
        system.advance(60.0)
        assert seen == [(False, 0), (True, 1)]
        assert sent.actions[-1] == ACK


def test_a_bulk_whose_answer_is_confirmed_is_refused_for_ever() -> None:
    """Its first copy comes late, after a bulk and a `Outstanding` that no longer wait for it."""
    submitted: list[int] = []
    handler = Handler(cast(Context, Hands(submitted)))
    route = RoutePlan("q", ("q",))
    handler.on(
        Configure(PipelinePlan("spool", "spool", "", (route,)), "handler", "q"), "pipeline", 0.0
    )
    handler.on(Outstanding((1, 2), 5), "batcher", 0.0)
    handler.on(Bulk(1, 1, "q", (), (1,)), "batcher", 0.0)
    handler.on(Settlement(0, (1,), ()), "client", 0.0)
    handler.on(Bulk(2, 2, "q", (), (1,)), "batcher", 0.0)
    handler.on(Bulk(1, 1, "q", (), (1,)), "batcher", 0.0)
    handler.on(Outstanding((1, 2), 5), "batcher", 0.0)
    handler.on(Bulk(1, 1, "q", (), (1,)), "batcher", 0.0)
    assert submitted == [1, 2]


class Hands:
    """A context without a world, and a runner that only notes what it is given."""

    name, pid = "spool/q/1#1", 1

    def __init__(self, submitted: list[int]) -> None:
        self._submitted = submitted

    def send(self, to: str, message: ActorMessage) -> None:
        pass

    def client(self, kind: str, settings: Any) -> Any:
        return self

    def start(self) -> None:
        pass

    def submit(self, bulk: Bulk) -> None:
        self._submitted.append(bulk.number)


def test_a_bulk_that_was_lost_has_its_whole_time_when_it_comes() -> None:
    app = app_on("spool")

    @app.route(["q"], options={Options.TIMEOUT: 10.0})
    async def handle(messages: list[Message[int]]) -> None:
        await asyncio.sleep(8.0)

    with meddled(app, Nth(Bulk, None)) as system:
        (sent,) = system.deliver("q", [1])
        system.advance(60.0)
        assert (sent.actions, sent.attempts) == ([ACK], 1)


def test_a_dead_handler_that_is_introduced_late_gets_no_bulk() -> None:
    app = app_on("spool")

    @app.route(["q"], options={Options.MAX_CRASHES: 1})
    async def handle(messages: list[Message[int]]) -> None:
        pass

    def fate(sender: str, to: str, message: ActorMessage) -> float:
        return 1.001 if isinstance(message, Neighbours) and system.stage.now == 5.0 else 0.0

    system = meddled(app, fate)
    with system:
        system.advance(6.0)
        system.kill("handler")
        system.advance(0.002)
        (sent,) = system.deliver("q", [1])
        system.advance(60.0)
        assert sent.actions == [ACK]


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_had_to_start_twice_is_not_taken_for_dead_by_the_late_word_of_it(
    kind: str,
) -> None:
    seen: Seen = []
    with InMemorySystem(recording(kind, seen)) as system:
        system.deliver("q", [1])  # waits for a second
        (handler,), (pipeline,) = system.stage.named("handler"), system.stage.named("pipeline")
        system.advance(0.5)
        assert system.status()["ready"]
        system.stage.post(handler, pipeline, NotReady("handler", 1, "as told"))
        system.run_until_idle()
        assert system.status()["ready"]
        system.advance(5.0)
    assert seen == [(1, False)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_dead_batcher_held_says_nothing_of_the_living_one(kind: str) -> None:
    seen: Seen = []
    app = app_on(kind)

    @app.route(["q"], options={Options.BULK_SIZE: 2, Options.BULK_FLUSH_INTERVAL: 10.0})
    async def handle(messages: list[Message[int]]) -> None:
        seen.extend((message.body, message.redelivered) for message in messages)

    with InMemorySystem(app) as system:
        system.deliver("q", [1])
        system.advance(3.0)
        (connection,) = system.stage.named("connection")
        for _ in range(4):
            system.stage.post("dead/batcher#1", connection, Outstanding((), 99))
            system.run_until_idle()
        system.advance(10.0)
    assert seen == [(1, False)]


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_connection_whose_batcher_answers_nothing_is_not_ready_until_it_does(way: str) -> None:
    cut = True

    def fate(sender: str, to: str, message: ActorMessage) -> float | None:
        source, target = (
            ("/connection", "/batcher") if way == "there" else ("/batcher", "/connection")
        )
        return None if cut and source in sender and target in to else 0.0

    seen: Seen = []
    with meddled(recording("amqp", seen), fate) as system:
        system.run_until_idle()
        assert system.status()["ready"], "where nothing is under way, nothing is missed"
        sent = system.deliver("q", [1, 2, 3])
        system.advance(15.0)
        report = system.status()
        (connection,) = (a for a in report["actors"] if a["role"] == "connection")
        assert (report["ready"], connection["reason"]) == (False, CUT_OFF)
        cut = False
        system.advance(15.0)
        assert [one.actions[-1] for one in sent] == [ACK] * 3
        assert system.status()["ready"]
