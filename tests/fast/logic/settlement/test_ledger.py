"""What a ledger tells the world, and what it keeps."""

from __future__ import annotations

import time

import pytest

from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.ledger import Flush, Ledger


def delivered(count: int) -> Ledger:
    ledger = Ledger()
    ledger.deliver(count)
    return ledger


def test_a_settled_prefix_is_one_ack() -> None:
    ledger = delivered(10)
    ledger.settle(1, 3, Outcome.ACK)
    ledger.settle(4, 7, Outcome.ACK)
    assert ledger.flush() == Flush(7, ((1, 7),))
    assert ledger.flush() is None
    assert ledger.unsettled == 3


def test_what_lies_beyond_a_gap_is_acknowledged_singly_in_the_same_flush() -> None:
    ledger = delivered(10)
    ledger.settle(1, 2, Outcome.ACK)
    ledger.settle(5, 6, Outcome.ACK)
    assert ledger.flush() == Flush(2, ((1, 2), (5, 6)))
    ledger.settle(3, 4, Outcome.ACK)
    assert ledger.flush() == Flush(4, ((3, 4),))
    assert ledger.prefix == 6


def test_a_multiple_ack_never_names_a_tag_that_is_settled_already() -> None:
    ledger = delivered(4)
    ledger.settle(1, 1, Outcome.ACK)
    ledger.settle(2, 2, Outcome.REJECT)
    assert ledger.flush() == Flush(1, ((1, 1),), rejected=(2,))
    ledger.settle(4, 4, Outcome.REQUEUE)
    ledger.settle(3, 3, Outcome.RETURN)
    assert ledger.flush() == Flush(0, (), failed=(4,), returned=(3,))
    assert ledger.unsettled == 0


def test_a_delivery_is_settled_once() -> None:
    ledger = delivered(4)
    assert ledger.settle(2, 3, Outcome.ACK) == 2
    assert ledger.settle(1, 9, Outcome.REJECT) == 2
    assert ledger.settle(1, 4, Outcome.ACK) == 0
    assert ledger.flush() == Flush(3, ((2, 3),), rejected=(1, 4))


def test_what_was_never_delivered_is_not_settled() -> None:
    ledger = delivered(2)
    assert ledger.settle(0, 0, Outcome.ACK) == ledger.settle(3, 5, Outcome.ACK) == 0
    assert not ledger.hold(3, 1.0)
    assert not ledger.finish(1, Outcome.ACK)


def test_held_deliveries_count_as_unsettled_until_they_are_due() -> None:
    ledger = delivered(3)
    assert ledger.hold(1, 5.0)
    assert ledger.hold(2, 3.0, Outcome.RETURN)
    assert not ledger.hold(1, 1.0)
    assert (ledger.unsettled, ledger.held, ledger.decided, ledger.next_due()) == (3, 2, 2, 3.0)
    assert ledger.settle(1, 3, Outcome.ACK) == 1
    assert ledger.due(4.9) == 1
    assert ledger.flush() == Flush(0, ((3, 3),), returned=(2,))
    assert ledger.due(5.0) == 1
    assert ledger.flush() == Flush(0, (), failed=(1,))


def test_what_is_being_copied_is_acknowledged_when_the_copy_is_safe() -> None:
    ledger = delivered(2)
    assert ledger.decide(1)
    assert not ledger.decide(1)
    assert ledger.return_open() == 1
    assert ledger.finish(1, Outcome.ACK)
    assert not ledger.finish(1, Outcome.ACK)
    flush = ledger.flush()
    assert flush is not None
    assert (flush.prefix, flush.acked) == (1, ((1, 1),))


def test_a_full_prefetch_of_single_failures_is_decided_in_a_moment() -> None:
    ledger = delivered(20_000)
    began = time.process_time()
    for position in range(1, 20_001):
        assert ledger.hold(position, float(position))
    assert ledger.due(1e9) == 20_000
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("outcome", [Outcome.ACK, Outcome.REQUEUE, Outcome.RETURN, Outcome.REJECT])
def test_every_second_settled_then_the_rest_leaves_one_number(outcome: Outcome) -> None:
    ledger = delivered(1000)
    for position in range(2, 1001, 2):
        ledger.settle(position, position, outcome)
    for position in range(1, 1001, 2):
        ledger.settle(position, position, outcome)
    assert (ledger.prefix, ledger.unsettled, ledger._beyond) == (1000, 0, [])


@pytest.mark.parametrize(
    "outcome", [Outcome.ACK, Outcome.REQUEUE, Outcome.REJECT, Outcome.RETURN], ids=str
)
def test_attempts_are_told_of_what_is_given_back_and_kept_of_nothing(outcome: Outcome) -> None:
    ledger = delivered(1)
    ledger.settle(1, 1, outcome, attempts=3)
    flush = ledger.flush()
    assert flush is not None
    assert flush.told == (((1, 3),) if outcome in (Outcome.REQUEUE, Outcome.RETURN) else ())
    assert not ledger._told, "or it grows with every message"


def test_what_is_held_up_to_a_position_is_given_back_before_its_time() -> None:
    ledger = delivered(4)
    for position, until in ((1, 50.0), (2, 10.0), (4, 5.0)):
        ledger.hold(position, until, attempts=position)
    assert ledger.release(3) == 2
    assert ledger.flush() == Flush(failed=(2, 1), told=((2, 2), (1, 1)))
    assert (ledger.held, ledger.next_due()) == (1, 5.0)
    assert ledger.release(3) == 0
