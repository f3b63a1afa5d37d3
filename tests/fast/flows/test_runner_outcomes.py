"""What a bulk comes to: the handler runs in memory, the outcomes are the real ones."""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from pydantic import BaseModel

from actors import Actions, App, Events, HandlerActor, InvalidMessage, Message, Retry
from actors.logic.bulks.bulk import Piece
from actors.logic.messages.records import pack
from actors.logic.settlement.failure import Outcome
from actors.plan.plan import RoutePlan
from actors.roles.port import Started
from actors.roles.protocol import Bulk, Range, Settlement, Single
from actors.usercode.runner import InlineUserCode

ACK, REJECT = int(Outcome.ACK), int(Outcome.REJECT)


class Word(BaseModel):
    word: str


def piece(*bodies: bytes, epoch: int = 1, first: int = 1, offset: int = 0) -> Piece:
    raws = [pack(f"id-{body!r}", "words", b"", 0, 1.0, 0, body) for body in bodies]
    ends = array("I", accumulate((len(raw) for raw in raws), initial=offset))[1:]
    return Piece("words", epoch, first, b"".join(raws), ends.tobytes(), offset)


def run(
    handler: Any,
    *pieces: Piece,
    sizes: tuple[int, ...] = (),
    flagged: tuple[tuple[int, int], ...] = (),
    kind: str = "spool",
    **events: Any,
) -> Settlement:
    app = App()
    app.route(["words"], options={Events[name]: action for name, action in events.items()})(handler)
    code = InlineUserCode(app, [RoutePlan("words", ("words",))], kind, lambda: 0.0)
    code.start()
    assert code.turn(0.0) == [Started()]
    if not sizes:
        sizes = (sum(len(piece.ends) // 4 for piece in pieces),)
    code.submit(Bulk(7, 7, "words", pieces, sizes, flagged))
    (done,) = code.turn(0.0)
    code.close()
    assert isinstance(done, Settlement)
    return done


def outcomes(done: Settlement) -> dict[int, str]:
    """Position to name of outcome."""
    found = {
        position: Outcome(entry.outcome).name
        for entry in done.ranges
        for position in range(entry.first, entry.last + 1)
    }
    return found | {single.position: Outcome(single.outcome).name for single in done.singles}


def returns(messages: list[Message[Any]]) -> None:
    pass


def raises(messages: list[Message[Any]]) -> None:
    raise KeyError("lost")


def test_a_handler_that_returns_has_its_bulk_acknowledged_in_one_range() -> None:
    done = run(returns, piece(b"1", b"2", b"3"))
    assert done == Settlement(0, (7,), (Range(1, 1, 3, ACK),))


def test_pieces_that_join_up_share_a_range_and_others_do_not() -> None:
    pieces = (piece(b"1", b"2"), piece(b"3", first=3), piece(b"4", first=9), piece(b"5", epoch=2))
    done = run(returns, *pieces)
    assert done.ranges == (Range(1, 1, 3, ACK), Range(1, 9, 9, ACK), Range(2, 1, 1, ACK))


def test_bulks_are_cut_out_of_pieces_wherever_their_borders_are() -> None:
    seen: list[tuple[list[Any], list[int]]] = []

    def handler(messages: list[Message[Any]]) -> None:
        seen.append(([m.body for m in messages], [m.attempts for m in messages]))

    pieces = (piece(b"1", b"2", b"3", offset=50), piece(b"4", b"5", first=4))
    done = run(handler, *pieces, sizes=(2, 2, 1), flagged=((1, 3), (3, 1)))
    assert seen == [([1, 2], [0, 3]), ([3, 4], [0, 1]), ([5], [0])]
    assert done == Settlement(0, (7, 8, 9), (Range(1, 1, 5, ACK),))


@pytest.mark.parametrize("kind", ["amqp", "spool"])
def test_what_a_handler_raises_is_retried_where_nothing_is_declared(kind: str) -> None:
    def handler(messages: list[Message[Any]]) -> None:
        raise KeyError("lost")

    if kind == "amqp":  # the frames do not matter here: nothing reads them but the count
        done = run(handler, _amqp_piece(), kind=kind)
    else:
        done = run(handler, piece(b"1"), kind=kind)
    assert outcomes(done) == {1: "RETRY"}
    assert done.reports[0].error == "KeyError: 'lost'"
    assert (done.singles[0].error, done.singles[0].reason) == ("KeyError", "'lost'")


def _amqp_piece() -> Piece:
    from pika import frame, spec

    raw = frame.Method(1, spec.Basic.Deliver("c", 1, False, "", "words")).marshal()
    raw += frame.Header(1, 1, spec.BasicProperties()).marshal() + frame.Body(1, b"1").marshal()
    return Piece("words", 1, 1, raw, array("I", [len(raw)]).tobytes(), 0)


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        (Actions.ACK, "ACK"),
        (Actions.REQUEUE, "REQUEUE"),
        (Actions.REJECT, "REJECT"),
        (Actions.DEAD_LETTER, "DEAD_LETTER"),
    ],
)
def test_actions_on_success_and_on_exception(action: Actions, outcome: str) -> None:
    bodies = piece(b"1", b"2")
    assert outcomes(run(returns, bodies, ON_SUCCESS=action)) == {1: outcome, 2: outcome}
    assert outcomes(run(raises, bodies, ON_EXCEPTION=action)) == {1: outcome, 2: outcome}


def test_the_most_specific_class_of_the_table_decides() -> None:
    table = {Exception: Actions.REQUEUE, LookupError: Actions.REJECT, KeyError: Actions.DEAD_LETTER}
    assert outcomes(run(raises, piece(b"1"), ON_EXCEPTION=table)) == {1: "DEAD_LETTER"}


def test_a_retry_waits_longer_each_time_and_then_gives_up() -> None:
    retry = Retry(attempts=3, first=1.0, factor=3.0, jitter=False)
    flagged = ((1, 1), (2, 2))
    done = run(raises, piece(b"1", b"2", b"3"), flagged=flagged, ON_EXCEPTION=retry)
    assert [(s.outcome, s.delay, s.attempts) for s in done.singles] == [
        (Outcome.RETRY, 1.0, 1),
        (Outcome.RETRY, 3.0, 2),
        (Outcome.DEAD_LETTER, 0.0, 3),
    ]


def mark_each(messages: list[Message[Any]]) -> None:
    marks: list[Callable[[Message[Any]], None]] = [
        lambda m: m.accept(),
        lambda m: m.reject(),
        lambda m: m.reject(requeue=False),
        lambda m: m.dead_letter("bad word"),
        lambda m: m.snooze(9.0),
        lambda m: m.reject(delay=4.0, reason="busy"),
    ]
    for message, mark in zip(messages, marks, strict=False):
        mark(message)


def mark_each_and_raise(messages: list[Message[Any]]) -> None:
    mark_each(messages)
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("handler", "rest"), [(mark_each, "ACK"), (mark_each_and_raise, "REQUEUE")]
)
def test_marks_beat_what_becomes_of_the_bulk(handler: Any, rest: str) -> None:
    bodies = piece(*(str(n).encode() for n in range(7)))
    done = run(handler, bodies, ON_EXCEPTION=Actions.REQUEUE)
    assert list(dict(sorted(outcomes(done).items())).values()) == [
        "ACK", "REQUEUE", "REJECT", "DEAD_LETTER", "SNOOZE", "REQUEUE", rest,
    ]  # fmt: skip
    by_position = {single.position: single for single in done.singles}
    assert by_position[4] == Single(1, 4, Outcome.DEAD_LETTER, 0.0, "bad word", attempts=1)
    assert by_position[5] == Single(1, 5, Outcome.SNOOZE, 9.0, attempts=1)
    assert by_position[6] == Single(1, 6, Outcome.REQUEUE, 4.0, "busy", attempts=1)


def test_an_undecodable_message_is_settled_alone_and_its_neighbours_follow_the_table() -> None:
    def handler(messages: list[Message[Any]]) -> None:
        for message in messages:
            _ = message.body

    done = run(handler, piece(b"1", b"{", b"3"), ON_EXCEPTION=Actions.REQUEUE)
    assert outcomes(done) == {1: "REQUEUE", 2: "DEAD_LETTER", 3: "REQUEUE"}
    dead = next(single for single in done.singles if single.position == 2)
    assert dead.error == "actors.errors.InvalidMessage"
    assert dead.reason.startswith("not JSON")


def test_a_handler_that_passes_over_an_undecodable_message_loses_only_that_one() -> None:
    def handler(messages: list[Message[Any]]) -> None:
        for message in messages:
            try:
                _ = message.body
            except InvalidMessage:
                continue

    done = run(handler, piece(b"1", b"{", b"3"))
    assert outcomes(done) == {1: "ACK", 2: "DEAD_LETTER", 3: "ACK"}
    assert "not JSON" in done.reports[0].error


def test_a_mark_beats_undecodable() -> None:
    def handler(messages: list[Message[Any]]) -> None:
        messages[0].accept()
        _ = messages[0].body

    assert outcomes(run(handler, piece(b"{"))) == {1: "ACK"}


def test_an_invalid_message_that_the_handler_itself_raises_is_by_the_table() -> None:
    def handler(messages: list[Message[Any]]) -> None:
        raise InvalidMessage("none of them is right")

    done = run(handler, piece(b"1", b"2"))
    assert outcomes(done) == {1: "DEAD_LETTER", 2: "DEAD_LETTER"}


def test_a_typed_handler_gets_only_what_is_valid() -> None:
    seen: list[str] = []

    async def handler(messages: list[Message[Word]]) -> None:
        seen.extend(message.body.word for message in messages)

    handler.__annotations__["messages"] = list[Message[Word]]
    done = run(handler, piece(b'{"word": "a"}', b'{"word": 1}', b"{", b'{"word": "b"}'))
    assert seen == ["a", "b"]
    assert outcomes(done) == {1: "ACK", 2: "DEAD_LETTER", 3: "DEAD_LETTER", 4: "ACK"}


def test_a_typed_handler_is_not_called_where_nothing_is_valid() -> None:
    def handler(messages: list[Message[Word]]) -> None:
        raise AssertionError("never called with an empty list")

    handler.__annotations__["messages"] = list[Message[Word]]
    done = run(handler, piece(b"1"), ON_EXCEPTION={InvalidMessage: Actions.REJECT})
    assert outcomes(done) == {1: "REJECT"}


@pytest.mark.parametrize("result", [42, [], ValueError("returned")])
def test_a_handler_that_returns_something_has_failed(result: Any) -> None:
    def handler(messages: list[Message[Any]]) -> Any:
        return result

    done = run(handler, piece(b"1", b"2"), ON_EXCEPTION=Actions.REQUEUE)
    assert outcomes(done) == {1: "DEAD_LETTER", 2: "DEAD_LETTER"}  # it would return it again
    assert f"returned {type(result).__name__}" in done.reports[0].error
    assert done.singles[0].error == "actors.errors.InvalidHandler"


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        GeneratorExit(),
        StopIteration(),
        StopAsyncIteration(),
        MemoryError(),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_handler_raises_is_an_exception_like_others(error: BaseException) -> None:
    def handler(messages: list[Message[Any]]) -> None:
        raise error

    async def async_handler(messages: list[Message[Any]]) -> None:
        await asyncio.sleep(0)
        raise error

    for function in (handler, async_handler):
        done = run(function, piece(b"1"), ON_EXCEPTION=Actions.REQUEUE)
        assert outcomes(done) == {1: "REQUEUE"}


def test_an_exception_that_cannot_say_what_it_is_costs_nothing() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def handler(messages: list[Message[Any]]) -> None:
        raise Mute

    done = run(handler, piece(b"1"), ON_EXCEPTION=Actions.DEAD_LETTER)
    assert done.singles[0].reason == ""
    assert done.reports[0].error.endswith("Mute")


def test_reasons_are_short_and_can_be_encoded() -> None:
    def handler(messages: list[Message[Any]]) -> None:
        raise ValueError("\ud800" + "x" * 10_000)

    done = run(handler, piece(b"1"), ON_EXCEPTION=Actions.DEAD_LETTER)
    assert done.singles[0].reason == "?" + "x" * 499


def test_an_exception_is_logged_once_with_its_traceback_and_no_body(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "actors.handler"):
        run(raises, piece(b'"secret"', b"2"))
    (record,) = caplog.records
    assert record.name == "actors.handler"
    assert record.getMessage() == "route words: the handler raised on a bulk of 2: KeyError: 'lost'"
    assert record.exc_info is not None
    assert "secret" not in caplog.text


def test_what_is_no_delivery_at_all_is_answered() -> None:
    def handler(messages: list[Message[Any]]) -> None:
        _ = messages[0].body

    garbage = Piece("words", 1, 1, b"garbage", array("I", [7]).tobytes(), 0)
    assert outcomes(run(handler, garbage)) == {1: "RETRY"}


def test_a_log_of_the_users_that_raises_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("no space left")

    monkeypatch.setattr(logging.getLogger("actors.handler"), "handlers", [Broken()])
    assert outcomes(run(raises, piece(b"1"))) == {1: "RETRY"}


def test_a_handler_may_do_to_its_list_what_it_likes() -> None:
    def handler(messages: list[Message[Any]]) -> None:
        messages.pop().reject(requeue=False)
        messages.clear()

    assert outcomes(run(handler, piece(b"1", b"2"))) == {1: "ACK", 2: "REJECT"}


def test_a_class_is_started_before_its_first_bulk_and_stopped_after_its_last() -> None:
    told: list[str] = []

    class Index(HandlerActor):
        async def on_start(self) -> None:
            told.append(f"start {self.app['key']} {self.log.name}")

        async def handle(self, messages: list[Message[Any]]) -> None:
            told.append(f"handle {len(messages)}")

        def on_stop(self) -> None:
            told.append("stop")

    app = App()
    app.route(["words"])(Index)
    app.run_on_startup(lambda app: app.update(key="value"))
    app.run_on_shutdown(lambda app: told.append("shutdown"))
    code = InlineUserCode(app, [RoutePlan("words", ("words",))], "spool", lambda: 0.0)
    code.start()
    code.turn(0.0)
    code.submit(Bulk(1, 1, "words", (piece(b"1"),), (1,)))
    code.turn(0.0)
    code.stop()
    code.turn(0.0)
    code.close()
    assert told == ["start value actors.handler.words", "handle 1", "stop", "shutdown"]
