"""What a batcher adds to an outcome, and what it keeps to itself."""

from __future__ import annotations

from random import Random

import pytest

from actors.errors import HandlerCrashed
from actors.logic.bulks.batching import Batching
from actors.logic.bulks.bulk import Chunk
from actors.logic.bulks.ordering import Ordering
from actors.logic.bulks.route_queue import RouteQueue
from actors.logic.settlement.attempts import proven
from actors.logic.settlement.failure import DEAD_LETTER, Outcome, Policy, next_attempts
from actors.logic.settlement.settling import Range, Settling, Single
from tests.support.deliveries import chunk, delivery, idle, positions


def settling(ordered: bool = False, broker: bool = True) -> tuple[Settling, RouteQueue]:
    batching: Batching | Ordering = Batching(10, 1000, 60.0)
    if ordered:
        batching = Ordering(100, 1000, 60.0, 0, lambda raw: raw[-3:-2].decode())
    route_queue = RouteQueue("q", batching, 1, 60.0, 3)
    return Settling({"q": route_queue}, broker_copies=broker, random=Random(0)), route_queue


def handed(route_queue: RouteQueue, made: Chunk) -> None:
    """All of a chunk is in a handler's hand."""
    route_queue.batching.add(made, 0.0)
    draft = route_queue.batching.take(0.0, flush=True)
    assert draft is not None
    assert draft.size == len(made.ends)


def test_a_range_is_told_by_the_chunks_that_it_lies_in() -> None:
    settle, _ = settling()
    settle.enter(chunk(3))
    settle.enter(chunk(3, number=2, first=4))
    settle.settle([Range(1, 2, 5, Outcome.ACK)], (), 0.0)
    assert settle.take() == [Range(1, 2, 3, Outcome.ACK), Range(1, 4, 5, Outcome.ACK)]
    assert settle.take() == []


def test_an_outcome_on_an_unknown_epoch_is_nothing() -> None:
    settle, _ = settling()
    settle.enter(chunk(3))
    settle.settle([Range(2, 1, 3, 0)], [Single(7, 1, Outcome.REQUEUE)], 0.0)
    assert settle.take() == []
    assert settle.chunk_table.open


@pytest.mark.parametrize("size", [1, 100_000])
def test_what_the_headers_of_a_copy_tell_counts_however_large_its_body(size: int) -> None:
    body = b"x-delivery-count" * size
    copy = proven(2, "q", b"", body)
    bodies = [delivery(body, headers=headers) for headers in ({"a": "b"}, copy)]
    settle, _ = settling()
    copies = chunk(bodies)
    settle.enter(copies)
    assert copies.attempts == {1: 2}


@pytest.mark.parametrize(
    ("attempts", "low", "high"), [(1, 0.0, 0.0), (2, 0.9, 1.0), (3, 1.8, 2.0), (99, 54.0, 60.0)]
)
def test_a_requeue_waits_by_how_often_the_message_failed(
    attempts: int, low: float, high: float
) -> None:
    settle, _ = settling()
    settle.enter(chunk([delivery(b"x")]))
    settle.settle((), [Single(1, 1, Outcome.REQUEUE, attempts=attempts)], 0.0)
    (said,) = settle.take()
    assert isinstance(said, Single)
    assert low <= said.delay <= high


def test_the_attempts_of_a_message_that_returns_by_its_broker_are_known_again() -> None:
    settle, _ = settling()
    settle.enter(chunk([delivery(b"x")]))
    settle.settle((), [Single(1, 1, Outcome.REQUEUE, attempts=4)], 0.0)
    again = chunk([delivery(b"x", tag=2), delivery(b"y")], number=2, first=2, attempts={0: 1, 1: 1})
    settle.enter(again)
    assert again.attempts == {0: 4, 1: 1}


def test_a_retry_of_an_ordered_route_is_known_again_when_its_channel_is_lost() -> None:
    settle, route_queue = settling(ordered=True)
    made = chunk([delivery(b"a1")])
    settle.enter(made)
    handed(route_queue, made)
    settle.settle((), [Single(1, 1, Outcome.RETRY, 2.0, attempts=7)], 0.0)
    again = chunk([delivery(b"a1", tag=2)], number=2, first=2, attempts={0: 1})
    settle.enter(again)
    assert again.attempts == {0: 7}


@pytest.mark.parametrize("raised", [False, True])
def test_a_mark_clears_its_message_only_in_a_bulk_that_raised_nothing(raised: bool) -> None:
    settle, _ = settling()
    settle.enter(chunk([delivery(b"x"), delivery(b"y")]))
    settle.settle((), [Single(1, 1, Outcome.REQUEUE, attempts=1)], 0.0, raised=raised)
    again = chunk([delivery(b"x", 2), delivery(b"y", 3)], number=2, first=3, attempts={0: 1, 1: 1})
    settle.enter(again)
    assert again.cleared == (set() if raised else {0})


def test_what_crashed_alone_is_not_cleared_by_its_mark_of_before() -> None:
    settle, _ = settling()
    made = chunk([delivery(b"x"), delivery(b"x")])
    settle.enter(made)
    settle.settle((), [Single(1, 1, Outcome.REQUEUE, attempts=1)], 0.0)
    settle.settle_as([(made, 1)], Policy(Outcome.REQUEUE), HandlerCrashed, "died", 0.0)
    again = chunk([delivery(b"x", 2)], number=2, first=3, attempts={0: 1})
    settle.enter(again)
    assert not again.cleared


def test_a_delay_of_the_handlers_own_is_kept() -> None:
    settle, _ = settling()
    settle.enter(chunk([delivery(b"x")]))
    settle.settle((), [Single(1, 1, Outcome.REQUEUE, delay=7.0, attempts=9)], 0.0)
    assert [said.delay for said in settle.take() if isinstance(said, Single)] == [7.0]


@pytest.mark.parametrize("broker", [True, False])
def test_a_copy_needs_the_delivery_where_the_broker_makes_none(broker: bool) -> None:
    settle, _ = settling(broker=broker)
    settle.enter(chunk([b"one", b"two"]))
    settle.settle((), [Single(1, 2, Outcome.DEAD_LETTER)], 0.0)
    assert settle.take() == [Single(1, 2, Outcome.DEAD_LETTER, raw=b"two" if broker else b"")]


def test_a_condemned_message_gets_what_the_table_says_with_its_attempts() -> None:
    settle, _ = settling(broker=False)
    made = chunk(3, attempts={1: 3})
    settle.enter(made)
    settle.settle_as([(made, 1)], DEAD_LETTER, HandlerCrashed, "died", 0.0)
    name = "actors.errors.HandlerCrashed"
    assert settle.take() == [Single(1, 2, Outcome.DEAD_LETTER, 0.0, "died", name, 3)]
    retry = Policy(Outcome.RETRY, 8, 1.0, 2.0, 600.0)
    settle.settle_as([(made, 0)], retry, TimeoutError, "late", 0.0)
    assert settle.take() == [Single(1, 1, Outcome.RETRY, 1.0, "late", "TimeoutError", 1)]


def test_on_an_ordered_route_what_comes_back_waits_here_with_its_attempts() -> None:
    settle, route_queue = settling(ordered=True)
    made = chunk([delivery(b"a1"), delivery(b"a2"), delivery(b"b1")])
    settle.enter(made)
    handed(route_queue, made)
    failed = [Single(1, n, Outcome.REQUEUE, attempts=2) for n in (1, 2)]
    settle.settle([Range(1, 3, 3, Outcome.ACK)], failed, 0.0)
    assert settle.take() == [Range(1, 3, 3, Outcome.ACK)]
    assert made.attempts == {0: 2, 1: 2}
    assert positions(route_queue.batching.take(1.0, flush=True)) == [1, 2]


def test_a_snooze_on_an_ordered_route_counts_no_attempt_but_one() -> None:
    settle, route_queue = settling(ordered=True)
    made = chunk([delivery(b"a1")])
    settle.enter(made)
    handed(route_queue, made)
    settle.settle((), [Single(1, 1, Outcome.SNOOZE, 5.0, attempts=1)], 0.0)
    assert settle.take() == []
    assert made.attempts == {0: 1}  # a handler has had it
    assert route_queue.batching.take(4.9, flush=True) is None
    assert positions(route_queue.batching.take(5.0, flush=True)) == [1]


def test_a_drain_returns_lines_that_wait_the_failed_as_failed_and_the_rest_untouched() -> None:
    settle, route_queue = settling(ordered=True)
    made = chunk([delivery(b"a1")])
    settle.enter(made)
    handed(route_queue, made)
    behind = chunk([delivery(b"a2")], number=2, first=2)
    settle.enter(behind)
    route_queue.batching.add(behind, 0.0)
    settle.settle((), [Single(1, 1, Outcome.REQUEUE, 5.0, attempts=2)], 0.0)
    settle.give_back(1.0)
    told = [(s.position, s.outcome, s.attempts) for s in settle.take() if isinstance(s, Single)]
    assert told == [(1, Outcome.REQUEUE, 2), (2, Outcome.RETURN, 0)]
    assert not settle.chunk_table.open


@pytest.mark.parametrize("draining", [False, True])
def test_a_drain_returns_what_was_snoozed_on_an_ordered_route_uncharged(draining: bool) -> None:
    settle, route_queue = settling(ordered=True)
    made = chunk([delivery(b"a1")])
    settle.enter(made)
    handed(route_queue, made)
    if draining:
        settle.give_back(0.0)
    settle.settle((), [Single(1, 1, Outcome.SNOOZE, 5.0, attempts=1)], 0.0)
    settle.give_back(1.0)
    assert settle.take() == [Single(1, 1, Outcome.RETURN, attempts=1)]


def test_what_is_tried_again_at_once_stands_behind_one_that_waits_and_returns_as_failed() -> None:
    settle, route_queue = settling(ordered=True)
    made = chunk([delivery(b"a1"), delivery(b"a2")])
    settle.enter(made)
    handed(route_queue, made)
    singles = [Single(1, 1, Outcome.REQUEUE, 30.0, attempts=1)]
    settle.settle((), [*singles, Single(1, 2, Outcome.REQUEUE, attempts=1)], 0.0)
    settle.give_back(4.0)
    told = [(s.position, s.outcome, s.attempts) for s in settle.take() if isinstance(s, Single)]
    assert told == [(1, Outcome.REQUEUE, 1), (2, Outcome.REQUEUE, 1)]


def test_what_fails_in_a_drain_returns_at_once() -> None:
    settle, route_queue = settling(ordered=True)
    made = chunk([delivery(b"a1")])
    settle.enter(made)
    handed(route_queue, made)
    settle.give_back(0.0)
    settle.settle((), [Single(1, 1, Outcome.REQUEUE, attempts=3)], 0.0)
    assert [one.outcome for one in settle.take()] == [Outcome.REQUEUE]
    assert idle(route_queue)


def test_in_a_drain_those_behind_a_failed_one_return_with_it() -> None:
    settle, route_queue = settling(ordered=True)
    made, behind = (
        chunk([delivery(b"a1")]),
        chunk([delivery(b"a2"), delivery(b"b1")], number=2, first=2),
    )
    settle.enter(made)
    handed(route_queue, made)
    settle.enter(behind)
    route_queue.batching.add(behind, 0.0)
    settle.give_back(0.0)
    settle.settle((), [Single(1, 1, Outcome.REQUEUE, attempts=1)], 0.0)
    said = [(one.position, one.outcome) for one in settle.take() if isinstance(one, Single)]
    assert said == [(1, Outcome.REQUEUE), (2, Outcome.RETURN)]
    assert positions(route_queue.batching.take(0.0, flush=True)) == [3]


@pytest.mark.parametrize(
    ("outcome", "handed_out", "next_one"),
    [(Outcome.REQUEUE, 1, 1), (Outcome.RETRY, 3, 3), (Outcome.SNOOZE, 3, 2), (Outcome.SNOOZE, 1, 1),
     (Outcome.RETURN, 0, 0)],
)  # fmt: skip
def test_a_snooze_gives_its_attempt_back_but_the_first(
    outcome: Outcome, handed_out: int, next_one: int
) -> None:
    assert next_attempts(outcome, handed_out) == next_one
