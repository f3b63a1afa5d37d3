"""What becomes of messages: bulks, flush timers, defaults and marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors import Actions, App, Events, Message, Options, Retry
from actors.errors import InvalidMessage
from actors.plan.build import build_plan
from actors.testing import InMemorySystem
from tests.support.flow import ACK, DEAD_LETTER, KINDS, REJECT, REQUEUE, app_on

pytestmark = pytest.mark.parametrize("kind", KINDS)

Bulks = list[list[Any]]


def recorder(app: App, bulks: Bulks, options: dict[Any, Any] | None = None) -> None:
    @app.route(["q"], options=options)
    async def handle(messages: list[Message[Any]]) -> None:
        bulks.append([message.body for message in messages])


@pytest.mark.parametrize(
    ("bulk_size", "prefetch", "effective"), [(2048, 1024, 1024), (4096, 8192, 4096)]
)
def test_a_bulk_is_never_larger_than_the_prefetch(
    kind: str, bulk_size: int, prefetch: int, effective: int
) -> None:
    """B 1."""
    app, bulks = app_on(kind, prefetch), Bulks()
    recorder(app, bulks, {Options.BULK_SIZE: bulk_size})
    with InMemorySystem(app) as system:
        system.deliver("q", range(effective))
        assert [len(bulk) for bulk in bulks] == [effective]


def test_a_bulk_of_one_is_a_list_of_one(kind: str) -> None:
    """B 2, B 14."""
    app, bulks = app_on(kind), Bulks()
    recorder(app, bulks)
    with InMemorySystem(app) as system:
        (sent,) = system.deliver("q", ["a"])
        assert bulks == [["a"]]
        assert sent.actions == [ACK]


def test_a_bulk_is_handed_out_when_it_is_full_and_in_order(kind: str) -> None:
    """B 3, B 5."""
    app, bulks = app_on(kind), Bulks()
    recorder(app, bulks, {Options.BULK_SIZE: 3})
    with InMemorySystem(app) as system:
        sent = system.deliver("q", [1, 2])
        assert bulks == []
        sent += system.deliver("q", [3])
        assert bulks == [[1, 2, 3]]
        assert [one.actions for one in sent] == [[ACK]] * 3


def test_a_route_without_options_has_the_defaults(kind: str) -> None:
    """B 6."""
    app = app_on(kind)
    recorder(app, [])
    (pipeline,) = build_plan(app).pipelines
    (route,) = pipeline.routes
    assert (route.bulk_size, route.bulk_flush_interval) == (1, 60.0)
    assert (route.concurrency, route.timeout, route.max_crashes) == (1, 1500.0, 3)
    assert app.routes["q"].options.on_success is ACK
    assert route.prefetch == 128


def test_a_bulk_that_does_not_fill_is_handed_out_after_the_interval(kind: str) -> None:
    """B 7, B 8: counted from the oldest message; an empty one is not handed out at all."""
    app, bulks = app_on(kind), Bulks()
    recorder(app, bulks, {Options.BULK_SIZE: 3, Options.BULK_FLUSH_INTERVAL: 2.0})
    with InMemorySystem(app) as system:
        system.advance(10.0)
        sent = system.deliver("q", [1])
        system.advance(1.5)
        sent += system.deliver("q", [2])
        system.advance(0.4)
        assert bulks == []
        system.advance(0.1)
        assert bulks == [[1, 2]]
        assert [one.actions for one in sent] == [[ACK], [ACK]]
        system.advance(60.0)
        assert bulks == [[1, 2]]


def test_the_flush_timer_outlives_a_handler_that_raises(kind: str) -> None:
    """B 9, B 30."""
    app = app_on(kind)
    calls: list[int] = []

    @app.route(["q"], options={
        Options.BULK_SIZE: 3, Options.BULK_FLUSH_INTERVAL: 1.0, Events.ON_EXCEPTION: REJECT,
    })  # fmt: skip
    async def handle(messages: list[Message[int]]) -> None:
        calls.append(messages[0].body)
        if len(calls) == 1:
            raise RuntimeError("once")

    with InMemorySystem(app, raise_errors=False) as system:
        (first,) = system.deliver("q", [1])
        system.advance(1.0)
        (second,) = system.deliver("q", [2])
        system.advance(1.0)
        assert (first.actions, second.actions) == ([REJECT], [ACK])


def test_what_raises_requeues_all_of_its_bulk(kind: str) -> None:
    """B 15: by the default of RabbitMQ and of the spool, each once, none acknowledged."""
    app = app_on(kind)

    @app.route(["q"], options={Options.BULK_SIZE: 2})
    async def handle(messages: list[Message[int]]) -> None:
        if not messages[0].redelivered:
            raise RuntimeError("once")

    with InMemorySystem(app, raise_errors=False) as system:
        sent = system.deliver("q", [1, 2])
        system.advance(60.0)
        assert [one.actions for one in sent] == [[REQUEUE, ACK]] * 2
        assert [str(error) for error in system.errors("q")] == ["once"]


@pytest.mark.parametrize("action", [ACK, REJECT, DEAD_LETTER])
@pytest.mark.parametrize("raises", [False, True])
def test_every_action_is_a_default_for_success_and_for_exceptions(
    kind: str, action: Actions, raises: bool
) -> None:
    """B 16 to 21."""
    app = app_on(kind)
    event = Events.ON_EXCEPTION if raises else Events.ON_SUCCESS

    @app.route(["q"], options={event: action})
    async def handle(messages: list[Message[int]]) -> None:
        if raises:
            raise RuntimeError("always")

    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("q", [1])
        system.advance(60.0)
        assert sent.actions == [action]
        assert sent.dead == (action is DEAD_LETTER)


@pytest.mark.parametrize("raises", [False, True])
def test_requeue_is_a_default_too(kind: str, raises: bool) -> None:
    """B 16, B 21."""
    app = app_on(kind)
    event = Events.ON_EXCEPTION if raises else Events.ON_SUCCESS

    @app.route(["q"], options={event: REQUEUE})
    async def handle(messages: list[Message[int]]) -> None:
        if messages[0].redelivered:
            messages[0].accept()
        elif raises:
            raise RuntimeError("once")

    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("q", [1])
        assert sent.actions == [REQUEUE, ACK]


def test_messages_of_a_bulk_are_settled_one_by_one(kind: str) -> None:
    """B 22."""
    app = app_on(kind)

    @app.route(["q"], options={Options.BULK_SIZE: 5})
    async def handle(messages: list[Message[int]]) -> None:
        for message in messages:
            if message.body in (2, 4) and not message.redelivered:
                message.reject(requeue=True)

    with InMemorySystem(app) as system:
        sent = system.deliver("q", [1, 2, 3, 4, 5])
        system.advance(60.0)
        assert [one.actions for one in sent] == [
            [ACK], [REQUEUE, ACK], [ACK], [REQUEUE, ACK], [ACK],
        ]  # fmt: skip


def test_marks_beat_the_default_of_success(kind: str) -> None:
    """B 23, B 24."""
    app = app_on(kind)

    @app.route(["q"], options={Options.BULK_SIZE: 4, Events.ON_SUCCESS: REJECT})
    async def handle(messages: list[Message[int]]) -> None:
        for message in messages:
            if message.body == 1:
                message.accept()
            elif message.body == 2 and not message.redelivered:
                message.reject(requeue=True)

    with InMemorySystem(app) as system:
        sent = system.deliver("q", [1, 2, 3, 4])
        system.advance(60.0)
        assert [one.actions for one in sent] == [[ACK], [REQUEUE, REJECT], [REJECT], [REJECT]]


@pytest.mark.parametrize(
    ("default", "mark", "action"),
    [
        (REQUEUE, lambda message: message.accept(), ACK),
        (ACK, lambda message: message.reject(requeue=False), REJECT),
        (ACK, lambda message: message.dead_letter("so"), DEAD_LETTER),
    ],
)
def test_marks_beat_the_default_of_exceptions(
    kind: str, default: Actions, mark: Callable[[Message[int]], None], action: Actions
) -> None:
    """B 25, B 26: a mark holds although the handler raises afterwards."""
    app = app_on(kind)

    @app.route(["q"], options={Events.ON_EXCEPTION: default})
    async def handle(messages: list[Message[int]]) -> None:
        mark(messages[0])
        raise RuntimeError("after the mark")

    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("q", [1])
        assert sent.actions == [action]


def test_the_last_mark_holds(kind: str) -> None:
    app = app_on(kind)

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        (message,) = messages
        message.accept()
        message.reject(requeue=False)
        message.dead_letter("the last word")

    with InMemorySystem(app) as system:
        (sent,) = system.deliver("q", [1])
        assert (sent.actions, sent.reason) == ([DEAD_LETTER], "the last word")
        assert [one.id for one in system.dead("q")] == [sent.id]


def test_a_body_is_decoded_once_and_an_undecodable_one_raises(kind: str) -> None:
    """B 28, B 29: the message is an InvalidMessage by the table, its neighbours are not."""
    app = app_on(kind)
    same: list[bool] = []

    @app.route(["q"], options={Options.BULK_SIZE: 2})
    async def handle(messages: list[Message[Any]]) -> None:
        for message in messages:
            try:
                same.append(all(message.body is message.body for _ in range(10)))
            except InvalidMessage:
                assert message.serialized_data == b"{"

    with InMemorySystem(app) as system:
        sent = system.deliver("q", [{"a": 1}, b"{"])
        assert [one.actions for one in sent] == [[ACK], [DEAD_LETTER]]
        assert same == [True]


@pytest.mark.parametrize("hint", [list, list[Message[int]], list[Message[str]]])
@pytest.mark.parametrize("body", [b"{", b"null", b"[]", b"\xff"])
def test_whatever_is_invalid_is_an_invalid_message(kind: str, hint: Any, body: bytes) -> None:
    app = app_on(kind)
    caught: list[type[BaseException]] = []

    def handle(messages: Any) -> None:
        try:
            assert messages[0].body in (None, [])
        except InvalidMessage as error:
            caught.append(type(error))
            raise

    handle.__annotations__["messages"] = hint
    app.route(["q"])(handle)
    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("q", [body])
        invalid = hint is not list or body in (b"{", b"\xff")
        assert sent.actions == [DEAD_LETTER if invalid else ACK]
        (route,) = system.status()["routes"]
    assert str(route["last_error"]).startswith("actors.errors.InvalidMessage: ") is invalid
    assert set(caught) <= {InvalidMessage}


def test_a_message_that_is_requeued_once_is_seen_twice(kind: str) -> None:
    """B 31."""
    app = app_on(kind)
    seen: list[tuple[bool, int]] = []

    @app.route(["q"], options={Events.ON_EXCEPTION: REQUEUE})
    async def handle(messages: list[Message[int]]) -> None:
        seen.append((messages[0].redelivered, messages[0].attempts))
        if len(seen) == 1:
            messages[0].reject(requeue=True)
            raise RuntimeError("once")
        messages[0].accept()

    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("q", [1])
        system.advance(60.0)
        assert seen == [(False, 0), (True, 1)]
        assert sent.actions == [REQUEUE, ACK]
        assert sent.attempts == 2


def test_a_message_that_is_rejected_is_gone(kind: str) -> None:
    """B 32: although the handler raises; a new connection gets nothing."""
    app, calls = app_on(kind), []

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        calls.append(messages[0].body)
        messages[0].reject(requeue=False)
        raise RuntimeError("after the mark")

    with InMemorySystem(app, raise_errors=False) as system:
        system.deliver("q", [1])
        system.disconnect()
        system.advance(60.0)
        assert calls == [1]


def test_a_snooze_is_not_counted(kind: str) -> None:
    app = app_on(kind)
    times: list[float] = []

    @app.route(["q"], options={Events.ON_EXCEPTION: Retry(attempts=2, first=1.0)})
    async def handle(messages: list[Message[int]]) -> None:
        times.append(system.stage.now)
        if len(times) < 5:
            messages[0].snooze(10.0)
        else:
            raise RuntimeError("twice")

    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("q", [1])
        system.advance(100.0)
        assert times[:5] == pytest.approx([0.0, 10.0, 20.0, 30.0, 40.0])
        assert sent.dead
        assert len(times) == 5  # but one: a handler has had it


def test_a_long_snooze_waits_outside_the_queue(kind: str) -> None:
    app = app_on(kind, prefetch=1)
    times: list[float] = []

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        times.append(system.stage.now)
        if messages[0].body == 1 and len(times) == 1:
            messages[0].snooze(3600.0)

    with InMemorySystem(app) as system:
        sent = system.deliver("q", [1, 2])
        assert sent[1].actions == [ACK]  # the prefetch of one is free
        system.advance(3600.0)
        assert times == [0.0, 0.0, 3600.0]
        assert sent[0].actions == [REQUEUE, ACK]


def test_a_reject_with_delay_comes_back_after_it(kind: str) -> None:
    app = app_on(kind)
    times: list[float] = []

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        times.append(system.stage.now)
        if len(times) == 1:
            messages[0].reject(delay=7.5, reason="not yet")

    with InMemorySystem(app) as system:
        (sent,) = system.deliver("q", [1])
        system.advance(10.0)
        assert times == [0.0, 7.5]
        assert sent.actions == [REQUEUE, ACK]
