"""Numbered things come out in order, once, however they came in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.settlement.settling import Sequence


@given(st.lists(st.integers(1, 12)))
def test_things_come_out_once_and_in_order_whatever_came_twice(arrivals: list[int]) -> None:
    sequence: Sequence[str] = Sequence()
    out = [thing for number in arrivals for thing in sequence.put(number, f"thing {number}")]
    assert out == [f"thing {number}" for number in range(1, sequence.next)]
    assert set(range(1, sequence.next)) <= set(arrivals)
    assert sequence.next not in arrivals
    assert sequence.early() == sorted({n for n in arrivals if n > sequence.next})


@given(
    st.permutations(range(1, 13)),
    st.sets(st.integers(1, 12)),
    st.lists(st.tuples(st.integers(0, 11), st.integers(1, 13)), max_size=4),
)
def test_what_is_lost_or_given_up_stops_nobody_and_never_comes_back(
    arrivals: list[int], lost: set[int], rounds: list[tuple[int, int]]
) -> None:
    sequence: Sequence[int] = Sequence()
    out: list[int] = []
    given_up: set[int] = set()
    for place, number in enumerate(arrivals):
        if number not in lost:
            out += sequence.put(number, number)
        for _, below in [one for one in rounds if one[0] == place]:
            before = sequence.next
            held = {n for n in range(1, 13) if n not in lost}
            out += sequence.give_up(held, below)
            given_up |= set(range(before, sequence.next)) - set(out)
    assert given_up <= lost  # what the sender still holds is waited for
    out += sequence.give_up(set(), 13)
    assert out == sorted(set(arrivals) - lost)
    assert sequence.next == 13
    assert sequence.early() == []
    assert [thing for number in lost for thing in sequence.put(number, number)] == []


@given(st.lists(st.integers(2, 20), unique=True), st.integers(1, 25))
def test_nothing_is_given_up_from_the_first_that_is_not_below(
    arrivals: list[int], below: int
) -> None:
    sequence: Sequence[int] = Sequence()
    for number in arrivals:
        sequence.put(number, number)
    out = sequence.give_up((), below)
    assert out == [number for number in sorted(arrivals) if number < sequence.next]
    if below > 1:
        assert sequence.next >= below
    assert all(n in arrivals for n in range(below, sequence.next))
