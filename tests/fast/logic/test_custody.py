"""All that a connection answers for, over its queues and their epochs."""

from __future__ import annotations

from actors.logic.custody import Custody
from actors.logic.failure import Outcome
from actors.logic.ledger import Flush


def holding(count: int, window: int = 10) -> Custody:
    """One queue with so many deliveries."""
    custody = Custody()
    custody.begin(1, "q", "r", window)
    assert custody.deliver(1, count, 5 * count, 0.0) == (1, 1, count >= window)
    return custody


def test_a_chunk_gets_a_number_its_positions_and_whether_the_prefetch_is_spent() -> None:
    custody = holding(4, window=6)
    assert custody.deliver(1, 2, 10, 1.0) == (2, 5, True)
    custody.settle(1, 1, 1, Outcome.ACK)
    assert custody.in_flight("r") == custody.unsettled == 5
    assert custody.deliver(7, 1, 5, 1.0) is None


def test_a_settlement_of_an_ended_epoch_is_counted_and_dropped() -> None:
    custody = holding(2)
    custody.settle(1, 1, 1, Outcome.ACK)
    custody.end(1)
    custody.begin(2, "q", "r", 10)
    custody.deliver(2, 2, 10, 1.0)
    custody.settle(1, 1, 2, Outcome.ACK)
    custody.hold(1, 2, Outcome.REQUEUE, 5.0)
    assert custody.decide(1, 2, Outcome.DEAD_LETTER) is None
    assert custody.stale == 3
    assert custody.flushes() == []
    assert custody.unsettled == 2
    assert custody.outbox.open() == [2]


def test_what_is_held_takes_at_most_half_the_prefetch() -> None:
    custody = holding(6, window=4)
    for position, until in ((1, 9.0), (2, 3.0)):
        assert custody.may_hold(1)
        custody.hold(1, position, Outcome.REQUEUE, until)
    assert not custody.may_hold(1)
    assert custody.next_due() == 3.0
    custody.due(9.0)
    assert custody.flushes() == [("q", 1, Flush(failed=(2, 1)))]
    assert custody.may_hold(1)
    assert custody.next_due() is None


def test_with_a_prefetch_of_one_a_failure_is_still_held() -> None:
    custody = holding(1, window=1)
    custody.hold(1, 1, Outcome.REQUEUE, 5.0)
    assert custody.flushes() == []
    assert custody.unsettled == 1
    assert not custody.open


def test_the_original_is_acknowledged_once_its_copy_is_safe() -> None:
    custody = holding(2)
    account = custody.decide(1, 1, Outcome.DEAD_LETTER)
    assert account is not None
    assert (account.queue, custody.moving, custody.flushes()) == ("q", True, [])
    assert custody.decide(1, 1, Outcome.DEAD_LETTER) is None
    custody.finish(1, 1)
    custody.finish(1, 1)
    custody.finish(9, 1)
    assert custody.flushes() == [("q", 1, Flush(1, ((1, 1),)))]
    assert not custody.moving
    assert custody.counts["r"].dead == 1


def test_all_that_has_no_verdict_is_given_back_and_the_rest_is_not() -> None:
    custody = holding(4)
    custody.settle(1, 1, 1, Outcome.ACK)
    custody.hold(1, 2, Outcome.REQUEUE, 5.0)
    assert custody.give_back() == 2
    assert custody.give_back() == 0
    assert (custody.open, custody.unsettled) == (False, 1)
    counts = custody.counts["r"]
    assert (counts.acked, counts.requeued) == (1, 3)


def test_a_flush_is_told_once_for_each_queue_that_was_touched() -> None:
    custody = holding(1)
    custody.begin(2, "p", "r", 10)
    custody.deliver(2, 1, 5, 0.0)
    custody.settle(2, 1, 1, Outcome.ACK)
    assert custody.flushes() == [("p", 2, Flush(1, ((1, 1),)))]
    assert custody.flushes() == []


def test_a_queue_that_ends_before_its_flush_is_told_nothing() -> None:
    custody = holding(1)
    custody.settle(1, 1, 1, Outcome.ACK)
    custody.end(1)
    custody.end(1)
    assert custody.flushes() == []
    assert custody.unsettled == 0


def test_counts_say_what_became_of_everything_once() -> None:
    custody = holding(8)
    for position, outcome in enumerate((Outcome.ACK, Outcome.REJECT, Outcome.REQUEUE), 1):
        for _ in range(2):
            custody.settle(1, position, position, outcome)
    custody.decide(1, 4, Outcome.RETRY)
    custody.decide(1, 5, Outcome.SNOOZE)
    custody.blame("r", "KeyError: 'x'")
    report = custody.counts["r"].report("r", custody.in_flight("r"), 1.23456)
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
