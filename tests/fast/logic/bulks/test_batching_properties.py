"""Bulks lose nothing, double nothing, keep the order, and stay within their bounds."""

from __future__ import annotations

from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.logic.bulks.batching import Batching, bulk_cap, runs
from actors.logic.bulks.bulk import Chunk, Draft
from tests.support.deliveries import Receipt, bodies, chunk, receipts

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=12)
CHUNKS = st.lists(
    st.tuples(SIZES, st.dictionaries(st.integers(0, 11), st.integers(1, 4), max_size=4)),
    max_size=8,
)


def arrived(drawn: list[tuple[list[int], dict[int, int]]]) -> list[Chunk]:
    """Chunks of one epoch, one behind the other, of bodies of these sizes."""
    chunks, first = [], 1
    for number, (sizes, attempts) in enumerate(drawn, 1):
        made = [bytes([number]) * size for size in sizes]
        known = {index: n for index, n in attempts.items() if index < len(sizes)}
        chunks.append(chunk(made, number=number, first=first, attempts=known))
        first += len(sizes)
    return chunks


def attempts_of(chunks: list[Chunk]) -> dict[Receipt, int]:
    return {
        (c.epoch, c.first + index): c.attempts.get(index, 0)
        for c in chunks
        for index in range(len(c.ends))
    }


@given(CHUNKS, st.integers(1, 20), st.integers(1, 40), st.sampled_from([0, 2, 3]), st.data())
def test_every_delivery_is_in_one_bulk_in_its_order_and_within_its_bounds(
    drawn: list[tuple[list[int], dict[int, int]]],
    size: int,
    most: int,
    last_alone: int,
    data: st.DataObject,
) -> None:
    chunks = arrived(drawn)
    attempts = attempts_of(chunks)
    batching = Batching(size, most, 10.0, last_alone)
    drafts: list[Draft] = []
    for now, arriving in enumerate(chunks):
        batching.add(arriving, float(now))
        while draft := batching.take(float(now), flush=data.draw(st.booleans())):
            drafts.append(draft)
    while draft := batching.take(0.0, flush=True):
        drafts.append(draft)
    assert batching.size == 0
    buffers: dict[int, list[Receipt]] = {}
    for draft in drafts:
        held = receipts(draft)
        (cap,) = {bulk_cap(size, attempts[receipt], last_alone) for receipt in held}
        assert 1 <= draft.size == len(held) <= cap
        assert sum(part.bytes for part in draft.parts) <= most or len(held) == 1
        buffers.setdefault(cap, []).extend(held)
    assert all(buffer == sorted(buffer) for buffer in buffers.values())
    assert sorted(chain.from_iterable(buffers.values())) == sorted(attempts)


@given(CHUNKS, st.integers(1, 20), st.integers(1, 40))
def test_a_bulk_is_due_when_it_is_full_or_old_and_not_before(
    drawn: list[tuple[list[int], dict[int, int]]], size: int, most: int
) -> None:
    batching = Batching(size, most, 10.0)
    chunks = arrived(drawn)
    for came, arriving in enumerate(chunks):
        batching.add(arriving, float(came))
    while draft := batching.take(9.0):
        assert draft.size <= size
    # What is left is less than a bulk in each lane, and nobody need ask before the first is old.
    for buffer in batching._buffers.values():
        assert buffer.size < buffer._cap
        assert buffer.bytes < most
        assert (buffer.size, buffer.bytes) == (
            sum(part.size for part, _ in buffer._parts),
            sum(part.bytes for part, _ in buffer._parts),
        )
    now = 9.0
    while due := batching.due(now):
        assert batching.take(now) is None
        now = due
        assert batching.take(now) is not None
        while batching.take(now):
            pass
    assert batching.size == 0


@given(CHUNKS, st.integers(1, 20), st.integers(0, 8))
def test_an_ended_epoch_is_taken_out_and_nothing_else(
    drawn: list[tuple[list[int], dict[int, int]]], size: int, ended: int
) -> None:
    batching = Batching(size, 1000, 10.0)
    chunks = arrived(drawn)
    for number, arriving in enumerate(chunks):
        arriving.queue, arriving.epoch = ("q", 1) if number < ended else ("q", 2)
        batching.add(arriving, 0.0)
    dropped = batching.drop("q", 2)
    assert sum(part.size for part in dropped) == sum(len(c.ends) for c in chunks[:ended])
    left = []
    while draft := batching.take(0.0, flush=True):
        left += receipts(draft)
    assert len(left) == sum(len(c.ends) for c in chunks[ended:])
    assert {epoch for epoch, _ in left} <= {2}


@given(CHUNKS)
def test_runs_are_the_chunk_cut_where_the_attempts_change(
    drawn: list[tuple[list[int], dict[int, int]]],
) -> None:
    for made in arrived(drawn):
        parts = runs(made)
        assert bodies(parts) == [made.raw(index) for index in range(len(made.ends))]
        known = [{made.attempts.get(index, 0) for index in range(p.start, p.stop)} for p in parts]
        assert all(len(attempts) == 1 for attempts in known)
        assert all(a != b for a, b in pairwise(known))


@given(CHUNKS.filter(lambda drawn: sum(len(sizes) for sizes, _ in drawn) > 1), st.integers(1, 30))
def test_halves_hold_the_same_in_the_same_order_each_at_least_one(
    drawn: list[tuple[list[int], dict[int, int]]], size: int
) -> None:
    batching = Batching(10_000, 10_000, 10.0)
    for made in arrived([(sizes, {}) for sizes, _ in drawn]):
        batching.add(made, 0.0)
    draft = batching.take(0.0, flush=True)
    assert draft is not None
    left, right = draft.halves()
    assert left.alone
    assert right.alone
    assert receipts(left) + receipts(right) == receipts(draft)
    assert right.size - left.size in (0, 1)
    assert all(part.size for half in (left, right) for part in half.parts)


@given(CHUNKS, st.integers(0, 50))
def test_marks_of_earlier_attempts_travel_by_place_in_the_message(
    drawn: list[tuple[list[int], dict[int, int]]], offset: int
) -> None:
    draft = Draft([part for made in arrived(drawn) for part in runs(made)])
    marks = dict(draft.flagged(offset))
    expected = [chunk.attempts.get(index, 0) for chunk, index in draft.deliveries()]
    assert [marks.get(offset + place, 0) for place in range(draft.size)] == expected
    draft.count_attempt()
    again = dict(draft.flagged(offset))
    assert [again[offset + place] for place in range(draft.size)] == [n + 1 for n in expected]


@given(SIZES, st.data())
def test_a_piece_holds_the_bytes_of_its_part(sizes: list[int], data: st.DataObject) -> None:
    made = chunk([bytes([65 + index]) * size for index, size in enumerate(sizes)], first=7)
    start = data.draw(st.integers(0, len(sizes) - 1))
    stop = data.draw(st.integers(start + 1, len(sizes)))
    part = runs(made)[0].split(stop)[0].split(start)[1]
    piece = part.piece()
    ends = memoryview(piece.ends).cast("I")
    starts = [piece.base, *ends]
    cut = [piece.blob[a - piece.base : b - piece.base] for a, b in zip(starts, ends, strict=False)]
    assert cut == [made.raw(index) for index in range(start, stop)]
    assert piece.first == 7 + start
    assert part.fitting(part.bytes) == part.size
    assert part.fitting(part.bytes - 1) == part.size - 1


@pytest.mark.parametrize(
    ("attempts", "last_alone", "cap"),
    [(0, 0, 256), (1, 0, 64), (2, 0, 16), (4, 0, 1), (99, 0, 1), (1, 3, 64), (2, 3, 1), (0, 1, 1)],
)
def test_a_bulk_of_failures_is_a_quarter_each_time_and_the_last_is_alone(
    attempts: int, last_alone: int, cap: int
) -> None:
    assert bulk_cap(256, attempts, last_alone) == cap
