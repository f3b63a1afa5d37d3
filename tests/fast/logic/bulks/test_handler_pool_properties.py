"""Promise 8 over a pool: routes that share processes do not suffer for each other.

Handlers of several routes, some with rows of their own and some that take turns, die whenever
a poison message is in their process, and now and then of themselves.
"""

from __future__ import annotations

from itertools import count
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.bulks.batching import Batching
from actors.logic.bulks.bulk import Draft, Handed
from actors.logic.bulks.handler_pool import MESSAGES_MAX, HandlerPool
from actors.logic.bulks.route_queue import RouteQueue
from tests.support.deliveries import Receipt, chunk, idle, receipts

CRASHES = 2
Route = tuple[int, int, bool]  #: size of bulks, how many at once, whether in a row with others


class Pool:
    """Routes with a queue and an epoch each, and their handlers."""

    def __init__(self, routes: list[Route], poison: set[Receipt], seed: int) -> None:
        self.random = Random(seed)
        self.poison = poison
        self.route_queues = [
            RouteQueue(
                f"r{epoch}", Batching(size, 1000, 10.0), 1 if serial else in_flight, 100.0, CRASHES,
                row="" if serial else None,
            )
            for epoch, (size, in_flight, serial) in enumerate(routes)
        ]  # fmt: skip
        self.handler_pool = HandlerPool(self.route_queues, count(1))
        self.hands: dict[str, dict[int, Handed]] = {}
        self.unheard: dict[str, list[set[int]]] = {}
        self.answered: list[Receipt] = []
        self.settled_outside: list[Receipt] = []
        self._names = count(1)

    def add_handler(self) -> None:
        name = f"h{next(self._names)}"
        self.handler_pool.add_handler(name)
        self.hands[name], self.unheard[name] = {}, []

    def arrive(self, each: int) -> None:
        for epoch, route_queue in enumerate(self.route_queues):
            route_queue.batching.add(
                chunk(each, number=epoch, queue=route_queue.name, epoch=epoch), 0.0
            )

    def hand_out(self) -> None:
        for name, bulks in self.handler_pool.hand_out(0.0, True):
            self.hands[name] |= {handed.number: handed for handed in bulks}
            self.unheard[name].append({handed.number for handed in bulks})
        out = [r for hand in self.hands.values() for h in hand.values() for r in receipts(h.draft)]
        assert len(set(out)) == len(out)  # nothing is in two hands
        for name, hand in self.hands.items():
            assert len(hand) < 2 or not any(handed.draft.alone for handed in hand.values())
            assert len(self.unheard[name]) <= MESSAGES_MAX
            for route_queue in self.route_queues:
                held = [handed for handed in hand.values() if handed.route == route_queue.name]
                assert route_queue.in_flight == 1 or len(held) <= route_queue.in_flight

    def step(self, mean: bool) -> None:
        """Something happens to somebody who works."""
        name = self.random.choice([name for name, hand in self.hands.items() if hand])
        hand = self.hands[name]
        if mean and self.random.random() < 0.2:
            self.die(name, self.random.choice([0, *hand]))
        elif self.random.random() < 0.3:
            self.handler_pool.handlers[name].received(hand)
            self.unheard[name] = []
        elif any(self.sick(handed.draft) for handed in hand.values()):
            self.die(name)
        else:
            self.answer(name, self.random.choice(list(hand)))

    def sick(self, draft: Draft) -> bool:
        return not self.poison.isdisjoint(receipts(draft))

    def die(self, name: str, overdue: int = 0) -> None:
        held = [r for handed in self.hands.pop(name).values() for r in receipts(handed.draft)]
        for losses in self.handler_pool.lose(name, overdue, 0.0).values():
            crashed = [(c.epoch, c.first + index) for c, index in losses.crashed]
            assert not crashed or crashed == held  # wholly alone
            self.settled_outside += crashed
            self.answered += [(c.epoch, c.first + index) for c, index in losses.timed_out]
        self.add_handler()

    def answer(self, name: str, number: int) -> None:
        handed = self.hands[name].pop(number)
        self.unheard[name] = [rest for sent in self.unheard[name] if (rest := sent - {number})]
        self.handler_pool.answer(name, (number,), 0.0)
        self.answered += receipts(handed.draft)

    def play(self, mean: int) -> None:
        """Until nothing is left; the first `mean` steps know deaths without a cause."""
        for number in range(20_000):
            self.hand_out()
            if all(idle(route_queue) for route_queue in self.route_queues):
                return
            assert any(self.hands.values()), "somebody waits, and nobody works"
            self.step(mean=number < mean)
        raise AssertionError("it spins")


ROUTES = st.lists(
    st.tuples(st.integers(1, 5), st.integers(2, 4), st.booleans()), min_size=1, max_size=5
)
POISON = st.sets(st.tuples(st.integers(0, 4), st.integers(1, 6)), max_size=4)


@given(
    routes=ROUTES,
    poison=POISON,
    handlers=st.integers(1, 3),
    each=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_the_innocent_of_all_routes_are_answered_and_the_poison_is_condemned(
    routes: list[Route], poison: set[Receipt], handlers: int, each: int, seed: int
) -> None:
    pool = Pool(routes, poison, seed)
    for _ in range(handlers):
        pool.add_handler()
    pool.arrive(each)
    pool.play(mean=0)
    everything = {(epoch, place) for epoch in range(len(routes)) for place in range(1, each + 1)}
    assert sorted(pool.settled_outside) == sorted(poison & everything)
    assert sorted(pool.answered) == sorted(everything - poison)
    assert not any(
        route_queue.suspected or route_queue.in_hand for route_queue in pool.route_queues
    )


@given(routes=ROUTES, poison=POISON, seed=st.integers(0, 2**32))
def test_every_message_has_one_end_while_handlers_die_of_themselves(
    routes: list[Route], poison: set[Receipt], seed: int
) -> None:
    pool = Pool(routes, poison, seed)
    pool.add_handler()
    pool.add_handler()
    pool.arrive(6)
    pool.play(mean=30)
    everything = {(epoch, place) for epoch in range(len(routes)) for place in range(1, 7)}
    assert sorted(pool.settled_outside + pool.answered) == sorted(everything)
