"""What has waited for too long is found, and what came late is not."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.consuming.sources import PART, Pace
from actors.logic.settlement.unacked import STEPS, Ages

arrivals = st.lists(st.tuples(st.floats(0.0, 50.0), st.integers(1, 5)), min_size=1, max_size=60)


@given(arrivals, st.floats(1.0, 1000.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_each_is_found_at_its_age_or_a_step_before(
    arrivals: list[tuple[float, int]], patience: float, share: float, settled: float
) -> None:
    step = patience / STEPS
    ages, came, now = Ages(step), [], 0.0
    for pause, count in arrivals:
        now += pause
        came += [now] * count
        ages.came(len(came), now)
    prefix = int(len(came) * settled)
    ages.settled(prefix)
    limit = now * share
    old = ages.before(limit)
    for position, time in enumerate(came[prefix:], prefix + 1):
        assert position <= old or time > limit
        assert position > old or time < limit + step or time == limit


@given(arrivals)
def test_a_patient_world_costs_one_mark(arrivals: list[tuple[float, int]]) -> None:
    ages, now, last = Ages(inf), 0.0, 0
    for pause, count in arrivals:
        now, last = now + pause, last + count
        ages.came(last, now)
    assert ages.before(now) == last
    ages.settled(last - 1)
    assert ages.before(arrivals[0][0]) == last
    ages.settled(last)
    assert ages.before(now) == 0


@given(
    st.integers(1, 100),
    st.floats(1e-5, 1e4),
    st.sampled_from([10.0, 1800.0, 86400.0]),
    st.booleans(),
)
def test_what_begins_in_time_is_done_in_time(
    bulk: int, cost: float, patience: float, known: bool
) -> None:
    pace = Pace(bulk, 1, 1000, ordered=False)
    if known:
        pace.learn(1, cost)
    within = pace.begun_within(patience)
    assert patience / PART <= within <= patience / 2
    takes = bulk * cost if known else patience / 2
    assert within + takes <= patience * 1.001 or takes > patience * (1 - 1 / PART)
