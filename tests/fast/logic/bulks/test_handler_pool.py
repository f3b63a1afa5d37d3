"""Several routes, one pool of handlers: who gets what in whose turn, and who is blamed."""

from __future__ import annotations

from collections import Counter
from itertools import count

from actors.logic.bulks.batching import Batching
from actors.logic.bulks.handler_pool import HandlerPool
from actors.logic.bulks.route_queue import RouteQueue
from tests.support.deliveries import Receipt, chunk, receipts


class Pool:
    """Routes of one pool, each with one queue of its name, and what its handlers hold."""

    def __init__(self, *routes: str, in_flight: int = 1, serial: bool = True) -> None:
        row = "" if serial else None
        self.route_queues = {
            r: RouteQueue(r, Batching(1, 1000, 60.0), in_flight, 10.0, 3, row=row) for r in routes
        }
        self.handler_pool = HandlerPool(self.route_queues.values(), count(1))
        self.held: dict[str, dict[int, str]] = {}
        self._chunks = count(1)

    def add_handler(self, handler: str) -> None:
        self.handler_pool.add_handler(handler)
        self.held[handler] = {}

    def arrive(self, route: str, size: int) -> None:
        number = next(self._chunks)
        self.route_queues[route].batching.add(
            chunk(size, number=number, queue=route, epoch=number), 0.0
        )

    def hand_out(self, now: float = 0.0) -> list[tuple[str, str, list[Receipt]]]:
        given = []
        for handler, bulks in self.handler_pool.hand_out(now, False):
            route = bulks[0].route
            self.held[handler].update({handed.number: route for handed in bulks})
            given.append((handler, route, [r for h in bulks for r in receipts(h.draft)]))
        return given

    def answer(self, handler: str, number: int, now: float = 0.0) -> None:
        del self.held[handler][number]
        self.handler_pool.answer(handler, (number,), now)


def test_routes_take_turns_however_much_one_has() -> None:
    pool = Pool("a", "b", "c")
    pool.add_handler("h")
    pool.arrive("a", 50)
    pool.arrive("b", 3)
    pool.arrive("c", 3)
    order: list[str] = []
    for _ in range(12):
        order += [route for _, route, _ in pool.hand_out()]
        pool.answer("h", min(pool.held["h"]))
    assert order[:9] == ["a", "b", "c"] * 3
    assert set(order[9:]) == {"a"}


def test_a_handler_has_two_unheard_messages_whatever_their_routes() -> None:
    routes = [f"r{number}" for number in range(50)]
    pool = Pool(*routes, in_flight=8, serial=False)
    pool.add_handler("h")
    for route in routes:
        pool.arrive(route, 8)
    assert len(pool.hand_out()) == 2
    rounds = 0
    while rounds < 50:
        rounds += 1
        pool.handler_pool.handlers["h"].received(pool.held["h"])
        assert len(pool.hand_out()) <= 2
    given = Counter(pool.held["h"].values())
    assert set(given) == set(routes)  # every one has had its turn


def test_two_long_bulks_of_one_row_leave_the_other_routes_at_work() -> None:
    pool = Pool("def")
    quick = RouteQueue("quick", Batching(1, 1000, 60.0), 4, 10.0, 3)
    pool.route_queues["quick"] = quick
    pool.handler_pool = HandlerPool(pool.route_queues.values(), count(1))
    pool.add_handler("h")
    pool.arrive("def", 5)
    assert [route for _, route, _ in pool.hand_out()] == ["def", "def"]
    pool.handler_pool.handlers["h"].received([1, 2])
    pool.arrive("quick", 1)
    assert [route for _, route, _ in pool.hand_out()] == ["quick"]


def test_a_death_accuses_the_bulks_of_every_route_and_each_then_runs_alone() -> None:
    pool = Pool("a", "b")
    pool.add_handler("h")
    pool.arrive("a", 1)
    pool.arrive("b", 1)
    assert len(pool.hand_out()) == 2
    assert pool.handler_pool.lose("h", 0, 0.0).keys() == {"a", "b"}
    pool.add_handler("i")
    ((_, first, _),) = pool.hand_out()
    assert pool.hand_out() == []  # nothing beside a suspect, of any route
    pool.answer("i", 3)
    ((_, second, _),) = pool.hand_out()
    assert {first, second} == {"a", "b"}


def test_what_kills_alone_is_condemned_and_its_neighbours_of_other_routes_are_not() -> None:
    pool = Pool("bad", "good")
    pool.arrive("bad", 1)
    pool.arrive("good", 20)
    crashed, answered, deaths = 0, 0, 0
    for number in range(100):
        if not pool.handler_pool.handlers:
            pool.add_handler(f"h{number}")
        pool.hand_out()
        ((name, held),) = [
            (n, held) for n, held in pool.held.items() if n in pool.handler_pool.handlers
        ]
        if "bad" in held.values():
            deaths += 1
            lost = pool.handler_pool.lose(name, 0, 0.0)
            crashed += sum(len(losses.crashed) for losses in lost.values())
            assert "good" not in lost or not lost["good"].crashed
        elif held:
            pool.answer(name, min(held))
            answered += 1
    assert (crashed, answered, deaths) == (1, 20, 4)


def test_a_route_that_kills_without_end_starves_no_other() -> None:
    pool = Pool("bad", "good")
    pool.arrive("bad", 1000)
    pool.arrive("good", 20)
    answered = 0
    for number in range(200):
        if not pool.handler_pool.handlers:
            pool.add_handler(f"h{number}")
        pool.hand_out()
        ((name, held),) = [
            (n, held) for n, held in pool.held.items() if n in pool.handler_pool.handlers
        ]
        alone = set(held.values())
        if alone == {"good"}:
            pool.answer(name, min(held))
            answered += 1
        elif held:
            pool.handler_pool.lose(name, 0, 0.0)
    assert answered == 20


def test_a_timeout_of_one_route_gives_the_bulks_of_the_others_back_unblamed() -> None:
    pool = Pool("a", "b")
    pool.add_handler("h")
    pool.arrive("a", 1)
    pool.arrive("b", 1)
    pool.hand_out()
    ((name, late),) = pool.handler_pool.overdue(10.0)
    lost = pool.handler_pool.lose(name, late.number, 10.0)
    assert len(lost["a"].timed_out) == 1
    assert lost["b"].timed_out == lost["b"].crashed == []
    pool.add_handler("i")
    assert [route for _, route, _ in pool.hand_out(10.0)] == ["b"]
    assert not pool.route_queues["b"].suspected


def test_a_suspect_whose_epoch_ends_frees_the_handler_that_was_kept_for_it() -> None:
    pool = Pool("a", "b")
    pool.add_handler("h")
    pool.arrive("a", 1)
    pool.arrive("b", 3)
    pool.hand_out()
    pool.add_handler("g")
    pool.hand_out()
    pool.handler_pool.lose("h", 0, 0.0)
    assert pool.hand_out() == []  # g is kept, and finishes what it has
    for route_queue in pool.route_queues.values():
        route_queue.drop(route_queue.name, 9)
    for number in list(pool.held["g"]):
        pool.answer("g", number)
    pool.route_queues["b"].batching.add(chunk(1, number=9, queue="b", epoch=9), 0.0)
    assert pool.hand_out() == [("g", "b", [(9, 1)])]
