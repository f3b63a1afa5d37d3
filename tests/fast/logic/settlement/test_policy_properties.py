"""The table, the delays and the restarts: policies over their whole range."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from actors.connectors.rabbitmq.queues.retry_queues import step
from actors.logic.settlement.failure import Outcome, Policy, policy_for, requeue_delay
from actors.logic.settlement.recurrence import Past, Recurrences
from actors.logic.supervision.restart import HEALTHY, Backoff, Intensity
from tests.support.deliveries import delivery

SEEDS = st.integers(0, 2**32).map(Random)
SECONDS = st.floats(0, 1e6)
CLASSES = (Exception, ArithmeticError, ZeroDivisionError, LookupError, KeyError, OSError)


@given(st.sets(st.sampled_from(CLASSES)), st.sampled_from((*CLASSES, IndexError, SystemExit)))
def test_the_most_specific_class_of_the_table_decides(
    declared: set[type[Exception]], raised: type[BaseException]
) -> None:
    kinds = declared | {Exception}
    table: dict[type[BaseException], Policy] = {
        kind: Policy(Outcome.RETRY, place) for place, kind in enumerate(kinds, 1)
    }
    chosen = next(kind for kind, policy in table.items() if policy is policy_for(table, raised))
    if not issubclass(raised, Exception):
        assert chosen is Exception
        return
    assert issubclass(raised, chosen)
    assert not [kind for kind in kinds if issubclass(raised, kind) and kind not in chosen.__mro__]


@given(
    st.integers(0, 2**31),
    st.integers(0, 100),
    st.floats(1e-3, 1e6),
    st.floats(1, 1e300),
    st.floats(0, math.inf),
)
def test_a_retry_waits_ever_longer_up_to_its_cap_and_ends(
    attempts: int, most: int, first: float, factor: float, cap: float
) -> None:
    retry = Policy(Outcome.RETRY, most, first, factor, cap)
    outcome, delay = retry.apply(attempts)
    assert 0 <= delay <= cap
    if most and attempts >= most:
        assert (outcome, delay) == (Outcome.DEAD_LETTER, 0.0)
        return
    assert outcome is Outcome.RETRY
    later, longer = retry.apply(attempts + 1)
    assert later is Outcome.DEAD_LETTER or longer >= delay
    if attempts <= 1:
        assert delay == min(first, cap)


@given(st.integers(0, 2**70), st.binary(max_size=20), st.floats(0, 1e4), st.floats(0, 1e4))
def test_jitter_shortens_a_wait_by_a_tenth_at_the_most_and_the_same_each_time(
    attempts: int, content: bytes, first: float, cap: float
) -> None:
    plain = Policy(Outcome.RETRY, 0, first, 2.0, cap)
    outcome, delay = replace(plain, jitter=True).apply(attempts, content)
    _, full = plain.apply(attempts)
    assert outcome is Outcome.RETRY
    assert full * 0.9 <= delay <= full
    assert delay == replace(plain, jitter=True).apply(attempts, content)[1]
    assert step(delay) <= step(full)


def test_jitter_spreads_what_failed_together() -> None:
    retry = Policy(Outcome.RETRY, 0, 100.0, 1.0, 100.0, jitter=True)
    delays = sorted(retry.apply(3, b"message %d" % number)[1] for number in range(1000))
    quarters = [sum(low <= d < low + 2.5 for d in delays) for low in (90, 92.5, 95, 97.5)]
    assert all(200 <= quarter <= 300 for quarter in quarters)
    assert len(set(delays)) == 1000


@given(st.sampled_from(Outcome), st.integers(0, 100))
def test_what_is_no_retry_is_applied_as_it_is(outcome: Outcome, attempts: int) -> None:
    if outcome is not Outcome.RETRY:
        assert Policy(outcome, 3, 1.0).apply(attempts) == (outcome, 0.0)


@given(st.integers(-1, 10**9), SEEDS)
def test_a_requeue_waits_0_1_2_4_up_to_60_seconds_and_never_spins(
    failures: int, random: Random
) -> None:
    delay = requeue_delay(failures, random)
    full = 0.0 if failures <= 1 else min(60.0, 2.0 ** min(failures - 2, 10))
    assert full * 0.9 <= delay <= full


@given(st.lists(st.floats(0, 2 * HEALTHY), min_size=1, max_size=80), SECONDS, SECONDS, SEEDS)
def test_a_backoff_stays_within_its_bounds_and_begins_anew_after_health(
    lives: list[float], first: float, cap: float, random: Random
) -> None:
    backoff = Backoff(first, cap)
    attempt = 0
    for lived in lives:
        attempt = 1 if lived >= HEALTHY else attempt + 1
        delay = backoff.fail(lived, random)
        bound = min(cap, first * 2.0 ** (attempt - 1))
        assert backoff.attempt == attempt
        assert bound * 0.0999 <= delay <= bound


@given(st.lists(st.floats(0, 30), max_size=40), st.integers(1, 6), st.floats(1, 60))
def test_a_death_is_one_too_many_when_the_window_holds_more_than_it_may(
    gaps: list[float], deaths: int, period: float
) -> None:
    intensity = Intensity(deaths, period)
    times: list[float] = []
    now = 0.0
    for gap in gaps:
        now += gap
        times.append(now)
        recent = sum(time >= now - period for time in times)
        assert intensity.exceeded(now) == (recent > deaths)
        assert len(intensity._times) == recent


@given(st.lists(st.booleans(), max_size=6))
def test_only_who_was_marked_each_time_is_cleared(marks: list[bool]) -> None:
    recurrences = Recurrences()
    for attempts, marked in enumerate(marks, 1):
        recurrences.failed(delivery(b"a"), attempts, marked=marked)
    assert recurrences.past(delivery(b"a", 2)).cleared == (bool(marks) and all(marks))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), max_size=40), st.integers(1, 5))
def test_a_message_is_known_again_by_its_content_whatever_its_tag(
    failures: list[tuple[int, int]], capacity: int
) -> None:
    recurrences = Recurrences(capacity)
    for tag, (content, attempts) in enumerate(failures):
        recurrences.failed(delivery(b"%d" % content, tag + 1), attempts)
    recent = list(dict.fromkeys(content for content, _ in reversed(failures)))
    last = dict(failures)
    for content in range(10):
        known = last[content] if content in recent[:capacity] else 0
        assert recurrences.past(delivery(b"%d" % content, 999)).attempts == known


COUNTS = st.dictionaries(
    st.sampled_from(["x-delivery-count", "x-acquired-count"]), st.integers(1, 9), min_size=1
)


@given(st.dictionaries(st.sampled_from("zyxab"), st.integers(0, 9) | st.text()), COUNTS)
def test_a_message_is_known_again_whatever_a_quorum_queue_counts(
    headers: dict[str, int | str], counts: dict[str, int]
) -> None:
    recurrences = Recurrences()
    recurrences.failed(delivery(b"a", headers=headers or None), 1, marked=True)
    added = dict(sorted({**headers, **counts}.items()))
    assert recurrences.past(delivery(b"a", 2, added)) == Past(1, cleared=True)
    assert recurrences.past(delivery(b"b", 2, added)) == Past()
