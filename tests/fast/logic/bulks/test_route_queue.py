"""Who gets which bulk next, and what a handler's death leaves to decide."""

from __future__ import annotations

from itertools import count

import pytest

from actors.logic.bulks.batching import Batching
from actors.logic.bulks.bulk import Draft
from actors.logic.bulks.handler_pool import HandlerPool
from actors.logic.bulks.ordering import Ordering
from actors.logic.bulks.route_queue import NO_BULK, Losses, RouteQueue
from tests.support.deliveries import Receipt, chunk, idle, one, receipts


class Hands:
    """A line, and what its handlers have in hand, as a batcher plays them."""

    def __init__(
        self,
        size: int = 1,
        in_flight: int = 1,
        ordered: bool = False,
        max_crashes: int = 3,
        final: bool = False,
    ) -> None:
        batching: Batching | Ordering = Batching(size, 1000, 60.0)
        if ordered:
            batching = Ordering(size, 1000, 60.0, 0, lambda raw: raw[:1].decode())
        self.route_queue = RouteQueue(
            "q", batching, in_flight, 10.0, max_crashes, timeout_is_final=final
        )
        self.handler_pool = HandlerPool([self.route_queue], count(1))
        self.given: dict[int, tuple[str, Draft]] = {}

    def hand_out(self, now: float = 0.0, flush: bool = False) -> dict[str, list[list[Receipt]]]:
        """What each handler is given, by bulk."""
        given: dict[str, list[list[Receipt]]] = {}
        for name, bulks in self.handler_pool.hand_out(now, flush):
            self.given.update({handed.number: (name, handed.draft) for handed in bulks})
            given.setdefault(name, []).extend(receipts(handed.draft) for handed in bulks)
        return given

    def answer(self, number: int, now: float = 0.0) -> None:
        name, _ = self.given.pop(number)
        self.handler_pool.answer(name, (number,), now)

    def lose(self, name: str, overdue: int = 0, now: float = 0.0) -> Losses | None:
        """What is to be decided; None where it held nothing."""
        self.given = {n: given for n, given in self.given.items() if given[0] != name}
        return self.handler_pool.lose(name, overdue, now).get("q")


def hired(*names: str, size: int = 1, in_flight: int = 1, ordered: bool = False) -> Hands:
    hands = Hands(size, in_flight, ordered)
    for name in names:
        hands.handler_pool.add_handler(name)
    return hands


def test_a_handler_is_given_two_messages_and_no_more_before_it_answers() -> None:
    hands = hired("h")
    hands.route_queue.batching.add(chunk(5), 0.0)
    assert hands.hand_out() == {"h": [[(1, 1)], [(1, 2)]]}
    hands.handler_pool.handlers["h"].received(
        [1, 2]
    )  # it has them, and works on the first for long
    assert hands.hand_out() == {}


def test_bulks_go_to_the_handler_that_has_least() -> None:
    hands = hired("g", "h")
    hands.route_queue.batching.add(chunk(3), 0.0)
    assert hands.hand_out() == {"g": [[(1, 1)], [(1, 3)]], "h": [[(1, 2)]]}


def test_a_suspect_runs_in_a_process_with_nothing_else_in_it() -> None:
    hands = hired("g", "h", size=2)
    hands.route_queue.batching.add(chunk(8), 0.0)
    hands.hand_out()
    assert hands.lose("g") == Losses()
    hands.handler_pool.add_handler("i")
    assert hands.hand_out() == {"i": [[(1, 1), (1, 2)]]}
    hands.route_queue.batching.add(chunk(8, number=2, first=9), 0.0)
    assert hands.hand_out() == {}  # h has its two, and i is kept for suspects


def test_a_bulk_that_dies_alone_is_halved_until_the_guilty_one_is_alone() -> None:
    hands = hired("h", size=4)
    hands.route_queue.batching.add(chunk(4), 0.0)
    tried = []
    for number in range(9):
        given = hands.hand_out()
        if not given:
            break
        ((bulk,),) = given.values()
        tried.append([position for _, position in bulk])
        if (1, 3) in bulk:
            losses = hands.lose(next(iter(given)))
            assert losses is not None
            if losses.crashed:
                break
            hands.handler_pool.add_handler(f"h{number}")
        else:
            hands.answer(max(hands.given))
    assert tried == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [3], [3]]
    hands.handler_pool.add_handler("last")
    assert hands.hand_out() == {"last": [[(1, 4)]]}


def test_what_waited_beside_an_overdue_bulk_is_handed_out_again_unaccused() -> None:
    hands = hired("h")
    hands.route_queue.batching.add(chunk(2), 0.0)
    hands.hand_out()
    ((name, late),) = hands.handler_pool.overdue(10.0)
    losses = hands.lose(name, late.number, 10.0)
    assert losses is not None
    assert [(c.epoch, c.first + i) for c, i in losses.timed_out] == [(1, 1)]
    assert losses.crashed == []
    hands.handler_pool.add_handler("g")
    hands.route_queue.batching.add(chunk(1, number=2, first=3), 10.0)
    assert hands.hand_out(10.0) == {"g": [[(1, 2)], [(1, 3)]]}


def test_who_answers_just_before_it_is_killed_leaves_no_suspects() -> None:
    hands = hired("h")
    hands.route_queue.batching.add(chunk(2), 0.0)
    hands.hand_out()
    ((name, late),) = hands.handler_pool.overdue(10.0)
    hands.answer(late.number, 10.0)
    assert hands.lose(name, late.number, 10.0) == Losses()
    assert not hands.route_queue._suspects
    hands.handler_pool.add_handler("g")
    assert hands.hand_out(10.0) == {"g": [[(1, 2)]]}


def test_a_handler_that_retires_gets_no_more_and_is_done_once_it_holds_nothing() -> None:
    hands = hired("g", "h")
    hands.route_queue.batching.add(chunk(2), 0.0)
    hands.hand_out()
    hands.handler_pool.add_handler("g", retiring=True)
    assert hands.handler_pool.retired() == []
    hands.answer(1)
    hands.route_queue.batching.add(chunk(2, number=2, first=3), 0.0)
    assert set(hands.hand_out()) == {"h"}
    assert hands.handler_pool.retired() == ["g"]
    assert hands.handler_pool.retired() == []
    hands.handler_pool.add_handler("g", retiring=True)  # asked again
    assert hands.handler_pool.retired() == ["g"]


def test_suspects_are_not_tried_by_a_handler_that_retires() -> None:
    hands = hired("g", "h")
    hands.route_queue.batching.add(chunk(1), 0.0)
    hands.hand_out()
    hands.lose("g")
    hands.handler_pool.add_handler("h", retiring=True)
    assert hands.hand_out() == {}
    hands.handler_pool.add_handler("i")
    assert hands.hand_out() == {"i": [[(1, 1)]]}


def test_an_ended_epoch_in_hand_is_neither_handed_out_again_nor_condemned() -> None:
    for overdue in (0, 1):
        hands = hired("h", size=2)
        hands.route_queue.batching.add(chunk(2), 0.0)
        hands.hand_out()
        hands.route_queue.drop("q", 2)
        assert hands.lose("h", overdue) == Losses()
        hands.handler_pool.add_handler("g")
        assert hands.hand_out(flush=True) == {}
        assert idle(hands.route_queue)


def test_who_was_in_a_process_with_an_ended_epoch_was_not_alone() -> None:
    hands = Hands(size=2, max_crashes=1)
    hands.handler_pool.add_handler("h")
    hands.route_queue.batching.add(chunk(1), 0.0)
    hands.route_queue.batching.add(chunk(1, number=2, queue="r", epoch=2), 0.0)
    assert hands.hand_out() == {"h": [[(1, 1), (2, 1)]]}
    hands.route_queue.drop("q", 3)
    assert hands.lose("h") == Losses()
    hands.handler_pool.add_handler("g")
    assert hands.hand_out() == {"g": [[(2, 1)]]}


def test_a_condemned_delivery_of_an_ended_epoch_is_left_to_its_copy() -> None:
    hands = Hands(max_crashes=1)
    hands.handler_pool.add_handler("h")
    hands.route_queue.batching.add(chunk(1), 0.0)
    hands.hand_out()
    hands.route_queue.drop("q", 2)
    assert hands.lose("h") == Losses()


def test_a_key_in_hand_when_its_epoch_ends_is_free_once_it_is_answered() -> None:
    hands = hired("h", ordered=True)
    hands.route_queue.batching.add(chunk([b"a"]), 0.0)
    hands.hand_out()
    hands.route_queue.drop("q", 2)
    hands.route_queue.batching.add(chunk([b"a"], number=2, epoch=2), 0.0)
    assert hands.hand_out() == {}
    hands.answer(1)
    assert hands.hand_out() == {"h": [[(2, 1)]]}


def test_a_key_in_hand_when_its_epoch_ends_is_free_once_its_handler_is_dead() -> None:
    for overdue in (0, 1):
        hands = hired("h", ordered=True)
        hands.route_queue.batching.add(chunk([b"a"]), 0.0)
        hands.hand_out()
        hands.route_queue.drop("q", 2)
        hands.route_queue.batching.add(chunk([b"a"], number=2, epoch=2), 0.0)
        hands.lose("h", overdue)
        hands.handler_pool.add_handler("g")
        assert hands.hand_out() == {"g": [[(2, 1)]]}


def test_keys_of_suspects_and_of_innocents_are_free_once_their_epoch_ends() -> None:
    for overdue in (0, 1):
        hands = hired("h", ordered=True)
        arrived = chunk([b"a", b"b"])
        hands.route_queue.batching.add(arrived, 0.0)
        hands.hand_out()
        hands.lose("h", overdue)
        if overdue:
            hands.route_queue.batching.settled(one(arrived, 0))  # its time-out was its outcome
        hands.route_queue.drop("q", 2)
        hands.route_queue.batching.add(chunk([b"a", b"b"], number=2, epoch=2), 0.0)
        hands.handler_pool.add_handler("g")
        assert hands.hand_out() == {"g": [[(2, 1)], [(2, 2)]]}


def test_suspects_of_an_ordered_route_keep_their_place_in_line() -> None:
    hands = hired("h", size=3, ordered=True)
    hands.route_queue.batching.add(chunk([b"a1", b"a2", b"b1", b"a3"]), 0.0)
    hands.hand_out()
    hands.lose("h")
    hands.handler_pool.add_handler("g")
    order = []
    for number in range(2, 6):
        ((bulk,),) = hands.hand_out(flush=True).values()
        order += [position for _, position in bulk]
        hands.answer(number)
        hands.route_queue.batching.settled(one(chunk(4), bulk[0][1] - 1))
    assert sorted(order) == [1, 2, 3, 4]
    assert [position for position in order if position != 3] == [1, 2, 4]


def test_a_spent_prefetch_flushes_a_bulk_once_nobody_works() -> None:
    hands = hired("h", size=4)
    hands.route_queue.batching.add(chunk(6), 0.0)
    hands.route_queue.spent.add("q")
    assert hands.hand_out() == {"h": [[(1, 1), (1, 2), (1, 3), (1, 4)]]}
    hands.answer(1)
    assert hands.hand_out() == {"h": [[(1, 5), (1, 6)]]}


def test_the_line_is_due_when_a_bulk_is_old_or_a_handler_late_whichever_comes_first() -> None:
    hands = hired("h", size=2)
    hands.route_queue.batching.add(chunk(2), 0.0)
    hands.hand_out()
    hands.route_queue.batching.add(chunk(1, number=2, first=3), 5.0)
    assert hands.handler_pool.due(5.0) == 10.0
    assert hands.handler_pool.due(10.0) == 65.0
    assert hands.handler_pool.due(65.0) is None


def test_a_death_that_is_told_twice_is_one() -> None:
    hands = hired("h")
    hands.route_queue.batching.add(chunk(1), 0.0)
    hands.hand_out()
    assert hands.lose("h") == Losses()
    assert hands.lose("h") is None


@pytest.mark.parametrize("ordered", [False, True])
def test_where_a_timeout_is_final_only_what_was_late_alone_suffers_it(ordered: bool) -> None:
    hands = Hands(4, ordered=ordered, final=True)
    hands.handler_pool.add_handler("h1")
    hands.route_queue.batching.add(chunk(4), 0.0)
    ((name, ((*bulk,),)),) = hands.hand_out().items()
    assert bulk == [(1, 1), (1, 2), (1, 3), (1, 4)]
    late, times, incarnation = (1, 3), 0, 1
    settled_outside: list[Receipt] = []
    while hands.given and times < 20:
        times += 1
        for number, (name, draft) in list(hands.given.items()):
            if late not in receipts(draft):
                hands.answer(number, 100.0)
                for part in draft.parts:
                    hands.route_queue.batching.settled(part)
                continue
            losses = hands.lose(name, number, 100.0)
            assert losses is not None
            settled_outside += [(c.epoch, c.first + index) for c, index in losses.timed_out]
            incarnation += 1
            hands.handler_pool.add_handler(f"h{incarnation}")
        hands.hand_out(100.0)
    assert settled_outside == [late]


def test_what_is_too_old_is_recalled_as_no_failure_also_what_a_lost_process_had() -> None:
    hands = hired("h", size=2)
    arrived, later = chunk([b"a", b"b", b"c"]), chunk([b"d"], number=2, first=4)
    hands.route_queue.add(arrived, 0.0)
    hands.hand_out()
    hands.route_queue.add(later, 0.0)
    hands.lose("h", overdue=NO_BULK)
    recalled = hands.route_queue.recall({1: 3})
    assert sorted((index, failed) for _, index, failed in recalled) == [
        (0, False), (1, False), (2, False)
    ]  # fmt: skip
    assert hands.route_queue.recall({1: 3, 2: 99}) == []
    assert hands.route_queue.batching.size == 1


def test_bulks_behind_one_that_is_begun_are_recallable() -> None:
    hands = hired("h")
    hands.route_queue.add(chunk([b"a", b"b"]), 0.0)
    hands.hand_out()
    first, second = hands.given
    assert list(hands.handler_pool.recallable({1: 2})) == [("h", [second])]
    assert list(hands.handler_pool.recallable({1: 1})) == []
    hands.answer(first)
    assert list(hands.handler_pool.recallable({1: 2})) == []
