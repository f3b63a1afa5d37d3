"""What is held follows the pace of the handlers."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.consuming.sources import HELD, PART, PAUSE_S, Pace

sizes = st.integers(1, 300)
costs = st.floats(1e-5, 1e4)
patiences = st.sampled_from([10.0, 60.0, 1800.0, 86400.0])


@st.composite
def paces(draw: st.DrawFn) -> Pace:
    bulk, slots = draw(sizes), draw(st.integers(1, 64))
    most = draw(st.integers(1, 2000))
    return Pace(min(bulk, most), slots, most, draw(st.integers(1, 5)), ordered=draw(st.booleans()))


def settled(pace: Pace, cost: float) -> None:
    for _ in range(100):
        pace.learn(1, cost)


@given(paces(), costs, patiences)
def test_what_may_be_held_is_done_in_good_time_or_is_the_least(
    pace: Pace, cost: float, patience: float
) -> None:
    settled(pace, cost)
    wanted = pace.wanted(patience)
    assert pace.least <= wanted <= pace.most
    takes = wanted * cost * pace.sharers / pace.slots
    assert wanted == pace.least or takes <= patience / PART * 1.001
    assert wanted == pace.least or pace.ordered or takes <= HELD * 1.001


@given(paces(), costs)
def test_a_world_without_a_limit_gets_the_whole_prefetch(pace: Pace, cost: float) -> None:
    assert pace.first(inf) == pace.wanted(inf) == pace.most
    settled(pace, cost)
    assert pace.wanted(inf) == pace.most


@given(paces(), st.floats(1e-5, 1e-4), patiences)
def test_fast_handlers_have_the_whole_prefetch(pace: Pace, cost: float, patience: float) -> None:
    settled(pace, cost)
    if pace.most * cost * pace.sharers / pace.slots <= min(HELD, patience / PART) * 0.99:
        assert pace.wanted(patience) == pace.most
        window = pace.first(patience)
        assert pace.change(window, window, patience, 0.0) == pace.most


answers = st.tuples(st.integers(1, 300), costs, st.floats(0.0, 3.0), st.integers(0, 2000))


@given(paces(), patiences, st.lists(answers, max_size=40))
def test_a_window_changes_in_steps_and_never_too_often(
    pace: Pace, patience: float, steps: list[tuple[int, float, float, int]]
) -> None:
    """From the least to a wider one and back, at the most once in a while; more is never
    unsettled than a window allows, once what an earlier one allowed is done."""
    now, window, changed = 0.0, pace.first(patience), -inf
    for deliveries, cost, seconds, unsettled in steps:
        now += seconds
        pace.learn(deliveries, deliveries * cost)
        after = pace.change(window, unsettled, patience, now)
        assert pace.least <= after <= pace.most
        if after != window:
            assert pace.least in (window, after)
            assert now >= changed + PAUSE_S
            assert after < window or unsettled <= window
            changed = now
        window = after


@given(paces(), patiences)
def test_nothing_known_means_two_bulks_each_unless_order_asks_for_more(
    pace: Pace, patience: float
) -> None:
    assert pace.wanted(patience) == (pace.most if pace.ordered else pace.least)
    pace.learn(0, 5.0)
    assert pace.wanted(patience) == (pace.most if pace.ordered else pace.least)


@given(paces(), costs, patiences)
def test_a_window_that_cannot_be_widened_begins_whole(
    pace: Pace, cost: float, patience: float
) -> None:
    """An order forbids to give back what comes too late: its slow handlers get less next time."""
    assert pace.alone(patience) == pace.most
    settled(pace, cost)
    assert pace.alone(patience) == (pace.wanted(patience) if pace.ordered else pace.most)
    assert pace.alone(inf) == pace.most
