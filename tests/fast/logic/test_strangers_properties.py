"""Never too many strangers, and nobody pays for a flood but its origin."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.strangers import Strangers

MOST, MOST_OF_ONE, SECONDS = 6, 3, 10.0

#: (origin of one who comes, or how many places back is the one who goes)
steps = st.lists(st.one_of(st.sampled_from("abcd"), st.integers(0, 8)), max_size=60)


@given(steps)
def test_they_are_never_too_many(taken: list[str | int]) -> None:
    strangers = Strangers[int](MOST, MOST_OF_ONE, SECONDS)
    here: dict[int, str] = {}
    for number, step in enumerate(taken):
        if isinstance(step, int):
            if step < len(here):
                gone = list(here)[step]
                strangers.discard(gone)
                del here[gone]
            continue
        of = [each for each, origin in here.items() if origin == step]
        here[number] = step
        surplus = strangers.add(number, step, float(number))
        counts = {origin: list(here.values()).count(origin) for origin in here.values()}
        if len(of) == MOST_OF_ONE:
            assert surplus == of[0]
        elif len(here) > MOST:
            assert surplus is not None
            assert counts[here[surplus]] == max(counts.values())
        else:
            assert surplus is None
        if surplus is not None:
            strangers.discard(surplus)
            del here[surplus]
        assert len(strangers) == len(here) <= MOST
    assert strangers.overdue(SECONDS + 60.0) == list(here)
    assert strangers.deadline() == (min(here) + SECONDS if here else None)


@given(st.integers(1, 100))
def test_one_of_another_origin_outlives_any_flood(size: int) -> None:
    strangers = Strangers[str](MOST, MOST_OF_ONE, SECONDS)
    assert strangers.add("honest", "h", 0.0) is None
    for number in range(size):
        surplus = strangers.add(f"flood {number}", "f", 0.0)
        assert surplus != "honest"
        if surplus:
            strangers.discard(surplus)


def test_they_have_their_time_and_no_more() -> None:
    strangers = Strangers[str](MOST, MOST_OF_ONE, SECONDS)
    strangers.add("one", "a", 0.0)
    strangers.add("two", "b", 1.0)
    assert strangers.overdue(SECONDS) == []
    assert strangers.overdue(SECONDS + 0.5) == ["one"]
    strangers.discard("one")
    strangers.discard("one")
    assert strangers.deadline() == SECONDS + 1.0
