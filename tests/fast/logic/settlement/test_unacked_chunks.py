"""Chunks that were sent to a batcher: which are open, and which got lost."""

from __future__ import annotations

from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.ledger import Ledger
from actors.logic.settlement.unacked import MISSED_ROUNDS_MAX, SentChunk, SentChunks


def filled(*sizes: int) -> tuple[SentChunks, Ledger]:
    """Chunks of so many deliveries each, of 10 bytes each, one a second."""
    sent_chunks, ledger = SentChunks(), Ledger()
    for at, size in enumerate(sizes):
        first = ledger.deliver(size)
        sent_chunks.send(SentChunk(ledger, 1, first, ledger.last, 10 * size, float(at)))
    return sent_chunks, ledger


def test_a_chunk_is_open_while_a_delivery_of_it_waits_for_a_outcome() -> None:
    sent_chunks, ledger = filled(2, 2, 2)
    ledger.settle(1, 3, Outcome.ACK)
    assert sent_chunks.open() == [2, 3]
    assert (sent_chunks.open_from(), sent_chunks.bytes, sent_chunks.oldest(), sent_chunks.next) == (
        2,
        40,
        1.0,
        4,
    )
    ledger.hold(4, 9.0)
    assert sent_chunks.open() == [3]
    ledger.settle(5, 6, Outcome.REJECT)
    assert (sent_chunks.open_from(), sent_chunks.bytes, sent_chunks.oldest()) == (4, 0, None)


def test_a_settled_chunk_behind_an_open_one_is_confirmed_though_it_is_not_the_first() -> None:
    sent_chunks, ledger = filled(1, 1)
    ledger.settle(2, 2, Outcome.ACK)
    assert sent_chunks.open_from() == 1
    assert sent_chunks.open() == [1]


def test_a_chunk_is_lost_once_it_is_given_up_and_refused() -> None:
    sent_chunks, _ = filled(1, 1)
    for _ in range(MISSED_ROUNDS_MAX):
        assert sent_chunks.open() == [1, 2]
        assert sent_chunks.missing({2}, waits_for=1, before=9.0) == []
    assert sent_chunks.open() == [2]
    assert sent_chunks.missing({2}, waits_for=1, before=9.0) == []  # it may still arrive
    assert [sent.first for sent in sent_chunks.missing({2}, waits_for=3, before=9.0)] == [1]
    assert sent_chunks.missing({2}, waits_for=3, before=9.0) == []
    assert sent_chunks.bytes == 10


def test_a_chunk_that_arrives_at_last_is_not_given_up() -> None:
    sent_chunks, _ = filled(1)
    for _ in range(MISSED_ROUNDS_MAX):
        sent_chunks.missing(set(), waits_for=1, before=9.0)
    assert sent_chunks.open() == []
    assert sent_chunks.missing({1}, waits_for=2, before=9.0) == []
    assert sent_chunks.open() == [1]


def test_what_was_sent_just_now_is_not_missed() -> None:
    sent_chunks, _ = filled(1)
    for _ in range(9):
        assert sent_chunks.missing(set(), waits_for=1, before=-1.0) == []
    assert sent_chunks.open() == [1]


def test_an_ended_epoch_takes_its_chunks_and_their_bytes_along() -> None:
    sent_chunks, _ = filled(2, 3)
    ledger = Ledger()
    sent_chunks.send(SentChunk(ledger, 2, ledger.deliver(1), 1, 7, 9.0))
    sent_chunks.end(1)
    assert (sent_chunks.open(), sent_chunks.bytes, len(sent_chunks)) == ([3], 7, 1)
