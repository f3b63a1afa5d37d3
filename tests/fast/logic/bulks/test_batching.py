"""Bulks by count, bytes and age; those that failed before in smaller ones."""

from __future__ import annotations

from actors.logic.bulks.batching import Batching
from tests.support.deliveries import chunk, positions


def test_a_bulk_is_full_by_count_and_takes_from_several_chunks() -> None:
    batching = Batching(3, 1000, 60.0)
    batching.add(chunk(2), 0.0)
    assert batching.take(0.0) is None
    batching.add(chunk(2, number=2, first=3), 1.0)
    assert positions(batching.take(1.0)) == [1, 2, 3]
    assert batching.size == 1
    assert batching.due(1.0) == 61.0


def test_a_bulk_is_full_by_bytes_and_a_huge_message_travels_by_itself() -> None:
    batching = Batching(100, 10, 60.0)
    batching.add(chunk([b"x" * 4, b"x" * 4, b"x" * 99, b"x", b"x"]), 0.0)
    bulks = [positions(batching.take(0.0)), positions(batching.take(0.0))]
    assert bulks == [[1, 2], [3]]
    assert batching.take(0.0) is None
    assert positions(batching.take(0.0, flush=True)) == [4, 5]
    assert batching.due(0.0) is None


def test_age_counts_from_the_oldest_in_line() -> None:
    batching = Batching(10, 1000, 5.0)
    batching.add(chunk(1), 0.0)
    batching.add(chunk(1, number=2, first=2), 4.0)
    assert batching.take(4.9) is None
    assert positions(batching.take(5.0)) == [1, 2]


def test_what_failed_comes_back_in_a_quarter_and_goes_first() -> None:
    batching = Batching(8, 1000, 60.0)
    batching.add(chunk(8), 0.0)
    batching.add(chunk(3, number=2, first=9, attempts={0: 1, 1: 1, 2: 1}), 0.0)
    assert positions(batching.take(0.0)) == [9, 10]
    assert positions(batching.take(0.0)) == list(range(1, 9))
    assert batching.take(0.0) is None


def test_what_was_given_back_by_a_mark_shares_bulks_of_full_size() -> None:
    batching = Batching(8, 1000, 60.0, last_alone=3)
    made = chunk(8, attempts={1: 1, 2: 1, 3: 2, 4: 2})
    made.cleared = {1, 4}
    batching.add(made, 0.0)
    bulks = [positions(batching.take(0.0, flush=True)) for _ in range(4)]
    assert bulks == [[4], [5], [3], [1, 2, 6, 7, 8]]  # a last attempt is alone in any case


def test_the_last_attempt_is_made_alone() -> None:
    batching = Batching(8, 1000, 60.0, last_alone=3)
    batching.add(chunk(3, attempts={0: 2, 1: 7}), 0.0)
    assert positions(batching.take(0.0)) == [1]
    assert positions(batching.take(0.0)) == [2]
    assert positions(batching.take(0.0, flush=True)) == [3]


def test_the_time_of_one_lane_does_not_hide_that_of_another() -> None:
    batching = Batching(8, 1000, 60.0)
    batching.add(chunk(1), 0.0)
    batching.add(chunk(1, number=2, first=2, attempts={0: 1}), 30.0)
    assert batching.due(60.0) == 90.0


def test_what_is_withheld_is_in_no_bulk() -> None:
    batching = Batching(10, 1000, 60.0)
    made = chunk(6, attempts=dict.fromkeys(range(6), 1))
    made.withheld |= {0, 3, 5}
    batching.add(made, 0.0)
    assert batching.size == 3
    taken: list[int] = []
    while draft := batching.take(0.0, flush=True):
        taken += positions(draft)
    assert taken == [2, 3, 5]
