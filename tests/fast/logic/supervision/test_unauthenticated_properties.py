"""Never too many strangers, and nobody pays for a flood but its origin."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.supervision.peers import UnauthenticatedPeers

MOST, MOST_OF_ONE, SECONDS = 6, 3, 10.0

#: (origin of one who comes, or how many places back is the one who goes)
steps = st.lists(st.one_of(st.sampled_from("abcd"), st.integers(0, 8)), max_size=60)


@given(steps)
def test_they_are_never_too_many(taken: list[str | int]) -> None:
    unauthenticated = UnauthenticatedPeers[int](MOST, MOST_OF_ONE, SECONDS)
    here: dict[int, str] = {}
    for number, step in enumerate(taken):
        if isinstance(step, int):
            if step < len(here):
                gone = list(here)[step]
                unauthenticated.discard(gone)
                del here[gone]
            continue
        of = [each for each, origin in here.items() if origin == step]
        here[number] = step
        surplus = unauthenticated.add(number, step, float(number))
        counts = {origin: list(here.values()).count(origin) for origin in here.values()}
        if len(of) == MOST_OF_ONE:
            assert surplus == of[0]
        elif len(here) > MOST:
            assert surplus is not None
            assert counts[here[surplus]] == max(counts.values())
        else:
            assert surplus is None
        if surplus is not None:
            unauthenticated.discard(surplus)
            del here[surplus]
        assert len(unauthenticated) == len(here) <= MOST
    assert unauthenticated.overdue(SECONDS + 60.0) == list(here)
    assert unauthenticated.deadline() == (min(here) + SECONDS if here else None)


@given(st.integers(1, 100))
def test_one_of_another_origin_outlives_any_flood(size: int) -> None:
    unauthenticated = UnauthenticatedPeers[str](MOST, MOST_OF_ONE, SECONDS)
    assert unauthenticated.add("honest", "h", 0.0) is None
    for number in range(size):
        surplus = unauthenticated.add(f"flood {number}", "f", 0.0)
        assert surplus != "honest"
        if surplus:
            unauthenticated.discard(surplus)


def test_they_have_their_time_and_no_more() -> None:
    unauthenticated = UnauthenticatedPeers[str](MOST, MOST_OF_ONE, SECONDS)
    unauthenticated.add("one", "a", 0.0)
    unauthenticated.add("two", "b", 1.0)
    assert unauthenticated.overdue(SECONDS) == []
    assert unauthenticated.overdue(SECONDS + 0.5) == ["one"]
    unauthenticated.discard("one")
    unauthenticated.discard("one")
    assert unauthenticated.deadline() == SECONDS + 1.0
