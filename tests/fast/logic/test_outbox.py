"""Chunks that were sent to a batcher: which are open, and which got lost."""

from __future__ import annotations

from actors.logic.failure import Outcome
from actors.logic.ledger import Ledger
from actors.logic.outbox import PATIENCE, Outbox, Sent


def filled(*sizes: int) -> tuple[Outbox, Ledger]:
    """Chunks of so many deliveries each, of 10 bytes each, one a second."""
    outbox, ledger = Outbox(), Ledger()
    for at, size in enumerate(sizes):
        first = ledger.deliver(size)
        outbox.send(Sent(ledger, 1, first, ledger.last, 10 * size, float(at)))
    return outbox, ledger


def test_a_chunk_is_open_while_a_delivery_of_it_waits_for_a_outcome() -> None:
    outbox, ledger = filled(2, 2, 2)
    ledger.settle(1, 3, Outcome.ACK)
    assert outbox.open() == [2, 3]
    assert (outbox.open_from(), outbox.bytes, outbox.oldest(), outbox.next) == (2, 40, 1.0, 4)
    ledger.hold(4, 9.0)
    assert outbox.open() == [3]
    ledger.settle(5, 6, Outcome.REJECT)
    assert (outbox.open_from(), outbox.bytes, outbox.oldest()) == (4, 0, None)


def test_a_settled_chunk_behind_an_open_one_is_confirmed_though_it_is_not_the_first() -> None:
    outbox, ledger = filled(1, 1)
    ledger.settle(2, 2, Outcome.ACK)
    assert outbox.open_from() == 1
    assert outbox.open() == [1]


def test_a_chunk_is_lost_once_it_is_given_up_and_refused() -> None:
    outbox, _ = filled(1, 1)
    for _ in range(PATIENCE):
        assert outbox.open() == [1, 2]
        assert outbox.missing({2}, waits_for=1, before=9.0) == []
    assert outbox.open() == [2]
    assert outbox.missing({2}, waits_for=1, before=9.0) == []  # it may still arrive
    assert [sent.first for sent in outbox.missing({2}, waits_for=3, before=9.0)] == [1]
    assert outbox.missing({2}, waits_for=3, before=9.0) == []
    assert outbox.bytes == 10


def test_a_chunk_that_arrives_at_last_is_not_given_up() -> None:
    outbox, _ = filled(1)
    for _ in range(PATIENCE):
        outbox.missing(set(), waits_for=1, before=9.0)
    assert outbox.open() == []
    assert outbox.missing({1}, waits_for=2, before=9.0) == []
    assert outbox.open() == [1]


def test_what_was_sent_just_now_is_not_missed() -> None:
    outbox, _ = filled(1)
    for _ in range(9):
        assert outbox.missing(set(), waits_for=1, before=-1.0) == []
    assert outbox.open() == [1]


def test_an_ended_epoch_takes_its_chunks_and_their_bytes_along() -> None:
    outbox, _ = filled(2, 3)
    ledger = Ledger()
    outbox.send(Sent(ledger, 2, ledger.deliver(1), 1, 7, 9.0))
    outbox.end(1)
    assert (outbox.open(), outbox.bytes, len(outbox)) == ([3], 7, 1)
