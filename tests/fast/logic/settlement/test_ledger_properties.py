"""The ledger against a dictionary, and its flushes against a broker's own rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.logic.consuming.frames import settle
from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.ledger import Ledger, merged
from tests.support.channel import Channel

AT_ONCE = (Outcome.ACK, Outcome.REQUEUE, Outcome.RETURN, Outcome.REJECT)
OPEN, DECIDED = "open", "decided"


class Model:
    """What a ledger means, a delivery at a time."""

    def __init__(self) -> None:
        self.states: dict[int, str | Outcome] = {}
        self.held: dict[int, tuple[float, Outcome]] = {}

    def settle(self, first: int, last: int, outcome: Outcome) -> int:
        opened = [p for p in range(first, last + 1) if self.states.get(p) == OPEN]
        self.states.update(dict.fromkeys(opened, outcome))
        return len(opened)

    def decide(self, position: int) -> bool:
        if self.states.get(position) != OPEN:
            return False
        self.states[position] = DECIDED
        return True

    def hold(self, position: int, until: float, outcome: Outcome) -> bool:
        if not self.decide(position):
            return False
        self.held[position] = until, outcome
        return True

    def due(self, now: float) -> int:
        due = [position for position, (until, _) in self.held.items() if until <= now]
        for position in due:
            self.states[position] = self.held.pop(position)[1]
        return len(due)

    def count(self, *states: str) -> int:
        return sum(state in states for state in self.states.values())


POSITIONS = st.integers(0, 30)
TIMES = st.integers(0, 5).map(float)
STEPS = st.one_of(
    st.tuples(st.just("deliver"), st.integers(1, 8)),
    st.tuples(st.just("settle"), POSITIONS, st.integers(0, 10), st.sampled_from(AT_ONCE)),
    st.tuples(
        st.just("hold"), POSITIONS, TIMES, st.sampled_from([Outcome.REQUEUE, Outcome.RETURN])
    ),
    st.tuples(st.just("decide"), POSITIONS),
    st.tuples(st.just("finish"), POSITIONS),
    st.tuples(st.just("due"), TIMES),
    st.tuples(st.just("flush")),
)


class Replay:
    """The same steps for ledger, model and broker."""

    def __init__(self) -> None:
        self.ledger, self.model, self.broker = Ledger(), Model(), Channel()

    def deliver(self, count: int) -> None:
        first = self.ledger.deliver(count)
        self.broker.unacked += range(first, first + count)
        self.model.states.update(dict.fromkeys(range(first, first + count), OPEN))

    def settle(self, first: int, more: int, outcome: Outcome) -> None:
        last = first + more
        assert self.ledger.settle(first, last, outcome) == self.model.settle(first, last, outcome)

    def hold(self, position: int, until: float, outcome: Outcome) -> None:
        held = self.model.hold(position, until, outcome)
        assert self.ledger.hold(position, until, outcome) == held

    def decide(self, position: int) -> None:
        assert self.ledger.decide(position) == self.model.decide(position)

    def finish(self, position: int) -> None:
        """A copy is safe; what is held here is nobody's to finish."""
        if position in self.model.held:
            return
        decided = self.model.states.get(position) == DECIDED
        assert self.ledger.finish(position, Outcome.ACK) == decided
        if decided:
            self.model.states[position] = Outcome.ACK

    def due(self, now: float) -> None:
        assert self.ledger.due(now) == self.model.due(now)

    def flush(self) -> None:
        if flush := self.ledger.flush():
            self.broker.receive(settle(1, flush))
        settled = {p: v for p, v in self.model.states.items() if isinstance(v, Outcome)}
        assert self.broker.told == settled
        assert self.ledger.flush() is None

    def look(self) -> None:
        ledger, states = self.ledger, self.model.states
        assert ledger.unsettled == self.model.count(OPEN, DECIDED)
        assert ledger.decided == self.model.count(DECIDED)
        assert ledger.held == len(self.model.held)
        assert ledger.next_due() == min((t for t, _ in self.model.held.values()), default=None)
        prefix = 0
        while isinstance(states.get(prefix + 1), Outcome):
            prefix += 1
        assert ledger.prefix == prefix
        opened = [p for low, high in ledger.open(0, 99) for p in range(low, high + 1)]
        assert opened == [position for position, state in states.items() if state == OPEN]


@settings(max_examples=300)
@given(st.lists(STEPS, min_size=8, max_size=60))
def test_a_ledger_settles_each_delivery_once_and_tells_the_broker_so(
    steps: list[tuple[str, ...]],
) -> None:
    replay = Replay()
    for name, *arguments in steps:
        step: Callable[..., None] = getattr(replay, name)
        step(*arguments)
        replay.look()
    replay.due(math.inf)
    for position in [p for p, state in replay.model.states.items() if state == DECIDED]:
        replay.finish(position)
    left = [position for position, state in replay.model.states.items() if state == OPEN]
    assert replay.ledger.return_open() == len(left)
    replay.model.states.update(dict.fromkeys(left, Outcome.REQUEUE))
    replay.flush()
    assert replay.broker.unacked == []
    assert replay.ledger.unsettled == 0
    assert replay.ledger.prefix == replay.ledger.last
    assert not replay.ledger._beyond


@given(st.lists(st.integers(0, 40), unique=True))
def test_ranges_are_merged_to_the_fewest(positions: list[int]) -> None:
    ranges = merged([(position, position) for position in positions])
    assert [p for low, high in ranges for p in range(low, high + 1)] == sorted(positions)
    assert all(after[0] > before[1] + 1 for before, after in pairwise(ranges))
