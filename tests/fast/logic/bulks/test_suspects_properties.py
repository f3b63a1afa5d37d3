"""Promise 8: no message suffers for its neighbours.

A route with handlers that die whenever a poison message is in their process, whatever
else is in it, at any moment, and under any traffic.
"""

from __future__ import annotations

from collections import Counter
from itertools import count as counting
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.bulks.batching import Batching
from actors.logic.bulks.bulk import Draft
from actors.logic.bulks.handler_pool import HandlerPool
from actors.logic.bulks.ordering import Ordering
from actors.logic.bulks.route_queue import Losses, RouteQueue
from tests.support.deliveries import Receipt, chunk, idle, one, receipts

TIMEOUT = 100.0


class Theatre:
    """A line with handlers, of which one that has a poison message in its process may die
    at any time and answers nothing; sometimes one dies of itself, or has its epoch ended."""

    def __init__(
        self, poison: set[int], size: int, in_flight: int, crashes: int, seed: int, ordered: bool
    ) -> None:
        self.random = Random(seed)
        self.poison = poison  # positions, in every epoch
        self.crashes = crashes
        batching: Batching | Ordering = Batching(size, 1000, 10.0)
        if ordered:
            batching = Ordering(size, 1000, 10.0, 0, lambda raw: raw.decode())
        self.route_queue = RouteQueue("q", batching, in_flight, TIMEOUT, crashes)
        self.handler_pool = HandlerPool([self.route_queue], counting(1))
        self.hands: dict[str, dict[int, Draft]] = {}
        self.epoch = 1
        self.open: set[Receipt] = set()
        self.answered: list[Receipt] = []
        self.settled_outside: list[Receipt] = []
        self.deaths_alone: Counter[Receipt] = Counter()
        self._chunks = 0
        self._arrived = 0
        self._hired = 0

    def add_handler(self) -> None:
        self._hired += 1
        name = f"h{self._hired}"
        self.handler_pool.add_handler(name)
        self.hands[name] = {}

    def arrive(self, count: int) -> None:
        self._chunks += 1
        made = chunk(
            [b"abc"[position % 3 :][:1] for position in range(count)],
            number=self._chunks,
            epoch=self.epoch,
            first=self._arrived + 1,
        )
        self._arrived += count
        self.open |= {(self.epoch, made.first + index) for index in range(count)}
        self.route_queue.batching.add(made, 0.0)

    def hand_out(self) -> None:
        for name, bulks in self.handler_pool.hand_out(0.0, True):
            self.hands[name].update((handed.number, handed.draft) for handed in bulks)
        out = [r for hand in self.hands.values() for d in hand.values() for r in receipts(d)]
        assert len(set(out)) == len(out)  # nothing is in two hands
        for hand in self.hands.values():
            if any(draft.alone for draft in hand.values()):
                assert len(hand) == 1  # a suspect has its process to itself

    def poisoned(self, name: str) -> bool:
        return any(p in self.poison for d in self.hands[name].values() for _, p in receipts(d))

    def die(self, name: str, overdue: int = 0) -> None:
        drafts = list(self.hands.pop(name).values())
        held = [receipt for draft in drafts for receipt in receipts(draft)]
        if len(held) == 1 and not overdue:
            self.deaths_alone[held[0]] += 1
        losses = self.handler_pool.lose(name, overdue, 0.0).get("q", Losses())
        for made, index in losses.crashed:
            receipt = made.epoch, made.first + index
            assert held == [receipt]
            assert self.deaths_alone[receipt] == self.crashes
            self.settled_outside.append(receipt)
            self.settle(receipt)
            self.route_queue.batching.settled(one(made, index))
        for made, index in losses.timed_out:
            self.settle((made.epoch, made.first + index))
            self.route_queue.batching.settled(one(made, index))
        self.add_handler()

    def answer(self, name: str, number: int) -> None:
        draft = self.hands[name].pop(number)
        self.handler_pool.answer(name, (number,), 0.0)
        for made, index in draft.deliveries():
            receipt = made.epoch, made.first + index
            if made.epoch == self.epoch:
                self.answered.append(receipt)
                self.deaths_alone.pop(receipt, None)
                self.settle(receipt)
                self.route_queue.batching.settled(one(made, index))

    def settle(self, receipt: Receipt) -> None:
        self.open.remove(receipt)  # once and no more

    def end_epoch(self) -> None:
        """The channel is gone: all that is open comes again on the next."""
        self.epoch += 1
        self.route_queue.drop("q", self.epoch)
        again, self.open = len(self.open), set()
        self.poison = {self._arrived + place for place in range(1, again + 1)} & self.poison
        if again:
            self.arrive(again)

    def step(self, mean: bool) -> None:
        """Something happens to somebody who works."""
        name = self.random.choice([name for name, hand in self.hands.items() if hand])
        number = self.random.choice(list(self.hands[name]))
        if mean and self.random.random() < 0.1:
            self.die(name, self.random.choice([0, number]))
        elif self.poisoned(name):
            fine = [n for n, d in self.hands[name].items() if not self.sick(d)]
            if fine and self.random.random() < 0.5:
                self.answer(name, self.random.choice(fine))
            else:
                self.die(name)
        else:
            self.answer(name, number)

    def sick(self, draft: Draft) -> bool:
        return any(position in self.poison for _, position in receipts(draft))

    def play(self, mean: int = 0) -> None:
        """Until nothing is left; the first `mean` steps know deaths without a cause."""
        for number in range(20_000):
            self.hand_out()
            if idle(self.route_queue):
                return
            assert any(self.hands.values()), "somebody waits, and nobody works"
            self.step(mean=number < mean)
        raise AssertionError("it spins")


POSITIONS = st.sets(st.integers(1, 40), max_size=4)
BOTH = {
    "size": st.integers(1, 9),
    "in_flight": st.integers(1, 4),
    "crashes": st.integers(1, 3),
    "seed": st.integers(0, 2**32),
    "ordered": st.booleans(),
}


@given(poison=POSITIONS, handlers=st.integers(1, 3), count=st.integers(1, 40), **BOTH)
def test_the_innocent_are_answered_and_the_poison_is_condemned(
    poison: set[int],
    handlers: int,
    count: int,
    size: int,
    in_flight: int,
    crashes: int,
    seed: int,
    ordered: bool,
) -> None:
    theatre = Theatre(poison, size, in_flight, crashes, seed, ordered)
    for _ in range(handlers):
        theatre.add_handler()
    theatre.arrive(count)
    theatre.play()
    culprits = {(1, position) for position in poison if position <= count}
    assert set(theatre.settled_outside) == culprits
    assert len(theatre.settled_outside) == len(culprits)
    assert {position for _, position in theatre.answered} == set(range(1, count + 1)) - poison
    assert not theatre.open
    assert not theatre.route_queue._suspects._crashes


@given(
    poison=POSITIONS,
    arrivals=st.lists(st.integers(1, 8), min_size=1, max_size=5),
    ended=st.sets(st.integers(0, 4), max_size=2),
    **BOTH,
)
def test_nothing_is_lost_or_handed_out_twice_while_epochs_end_and_handlers_die_of_themselves(
    poison: set[int],
    arrivals: list[int],
    ended: set[int],
    size: int,
    in_flight: int,
    crashes: int,
    seed: int,
    ordered: bool,
) -> None:
    theatre = Theatre(poison, size, in_flight, crashes, seed, ordered)
    theatre.add_handler()
    theatre.add_handler()
    for place, count in enumerate(arrivals):
        theatre.arrive(count)
        theatre.hand_out()
        if any(theatre.hands.values()):
            theatre.step(mean=True)
        if place in ended:
            theatre.end_epoch()
    theatre.play(mean=20)
    assert not theatre.open
    assert all(theatre.deaths_alone[receipt] >= crashes for receipt in theatre.settled_outside)
    assert not theatre.route_queue._suspects._crashes
    if isinstance(theatre.route_queue.batching, Ordering):
        assert not theatre.route_queue.batching._in_hand
        assert not theatre.route_queue.batching._keys
