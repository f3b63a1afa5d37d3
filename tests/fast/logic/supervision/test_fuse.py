"""When a loop fails too often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.supervision.fuse import FAILURES, SECONDS, Fuse


@given(st.lists(st.floats(0.0, 2.0), max_size=60))
def test_it_blows_at_the_first_failure_that_makes_too_many_in_a_second(gaps: list[float]) -> None:
    fuse, times, now = Fuse(), [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
        recent = times[-FAILURES:]
        assert fuse.failed(now) == (len(recent) == FAILURES and now - recent[0] < SECONDS)


def test_failures_far_apart_never_blow_it() -> None:
    fuse = Fuse()
    assert not any(fuse.failed(number * 1.01 * SECONDS / (FAILURES - 1)) for number in range(1000))
