"""All that a connection answers for, over its queues and their epochs."""

from __future__ import annotations

from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.ledger import Flush
from actors.logic.settlement.unacked import Unacked


def holding(count: int, window: int = 10) -> Unacked:
    """One queue with so many deliveries."""
    unacked = Unacked()
    unacked.begin(1, "q", "r", window)
    assert unacked.deliver(1, count, 5 * count, 0.0) == (1, 1, count >= window)
    return unacked


def test_a_chunk_gets_a_number_its_positions_and_whether_the_prefetch_is_spent() -> None:
    unacked = holding(4, window=6)
    assert unacked.deliver(1, 2, 10, 1.0) == (2, 5, True)
    unacked.settle(1, 1, 1, Outcome.ACK)
    assert unacked.in_flight("r") == unacked.unsettled == 5
    assert unacked.deliver(7, 1, 5, 1.0) is None


def test_a_settlement_of_an_ended_epoch_is_counted_and_dropped() -> None:
    unacked = holding(2)
    unacked.settle(1, 1, 1, Outcome.ACK)
    unacked.end(1)
    unacked.begin(2, "q", "r", 10)
    unacked.deliver(2, 2, 10, 1.0)
    unacked.settle(1, 1, 2, Outcome.ACK)
    unacked.hold(1, 2, Outcome.REQUEUE, 5.0)
    assert unacked.decide(1, 2, Outcome.DEAD_LETTER) is None
    assert unacked.stale == 3
    assert unacked.flushes() == []
    assert unacked.unsettled == 2
    assert unacked.sent_chunks.open() == [2]


def test_what_is_held_takes_at_most_half_the_prefetch() -> None:
    unacked = holding(6, window=4)
    for position, until in ((1, 9.0), (2, 3.0)):
        assert unacked.may_hold(1)
        unacked.hold(1, position, Outcome.REQUEUE, until)
    assert not unacked.may_hold(1)
    assert unacked.next_due() == 3.0
    unacked.due(9.0)
    assert unacked.flushes() == [("q", 1, Flush(failed=(2, 1)))]
    assert unacked.may_hold(1)
    assert unacked.next_due() is None


def test_with_a_prefetch_of_one_a_failure_is_still_held() -> None:
    unacked = holding(1, window=1)
    unacked.hold(1, 1, Outcome.REQUEUE, 5.0)
    assert unacked.flushes() == []
    assert unacked.unsettled == 1
    assert not unacked.open


def test_the_original_is_acknowledged_once_its_copy_is_safe() -> None:
    unacked = holding(2)
    account = unacked.decide(1, 1, Outcome.DEAD_LETTER)
    assert account is not None
    assert (account.queue, unacked.is_republishing, unacked.flushes()) == ("q", True, [])
    assert unacked.decide(1, 1, Outcome.DEAD_LETTER) is None
    unacked.finish(1, 1)
    unacked.finish(1, 1)
    unacked.finish(9, 1)
    assert unacked.flushes() == [("q", 1, Flush(1, ((1, 1),)))]
    assert not unacked.is_republishing
    assert unacked.counts["r"].dead == 1


def test_all_that_has_no_outcome_is_given_back_and_the_rest_is_not() -> None:
    unacked = holding(4)
    unacked.settle(1, 1, 1, Outcome.ACK)
    unacked.hold(1, 2, Outcome.REQUEUE, 5.0)
    assert unacked.give_back() == 2
    assert unacked.give_back() == 0
    assert (unacked.open, unacked.unsettled) == (False, 1)
    counts = unacked.counts["r"]
    assert (counts.acked, counts.requeued) == (1, 3)


def test_a_flush_is_told_once_for_each_queue_that_was_touched() -> None:
    unacked = holding(1)
    unacked.begin(2, "p", "r", 10)
    unacked.deliver(2, 1, 5, 0.0)
    unacked.settle(2, 1, 1, Outcome.ACK)
    assert unacked.flushes() == [("p", 2, Flush(1, ((1, 1),)))]
    assert unacked.flushes() == []


def test_a_queue_that_ends_before_its_flush_is_told_nothing() -> None:
    unacked = holding(1)
    unacked.settle(1, 1, 1, Outcome.ACK)
    unacked.end(1)
    unacked.end(1)
    assert unacked.flushes() == []
    assert unacked.unsettled == 0


def test_counts_say_what_became_of_everything_once() -> None:
    unacked = holding(8)
    for position, outcome in enumerate((Outcome.ACK, Outcome.REJECT, Outcome.REQUEUE), 1):
        for _ in range(2):
            unacked.settle(1, position, position, outcome)
    unacked.decide(1, 4, Outcome.RETRY)
    unacked.decide(1, 5, Outcome.SNOOZE)
    unacked.blame("r", "KeyError: 'x'")
    report = unacked.counts["r"].report("r", unacked.in_flight("r"), 1.23456)
    assert report == {
        "name": "r",
        "received": 8,
        "acked": 1,
        "rejected": 1,
        "requeued": 1,
        "retried": 2,
        "dead": 0,
        "last_error": "KeyError: 'x'",
        "in_flight": 5,
        "oldest_s": 1.235,
    }
