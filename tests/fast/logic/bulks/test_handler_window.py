"""What one handler holds, and how much more it may be given."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest

from actors.logic.bulks.batching import Batching
from actors.logic.bulks.bulk import Draft, Handed, Report
from actors.logic.bulks.handler_pool import BULKS_MAX, MESSAGES_MAX, HandlerState
from actors.logic.bulks.route_queue import RouteQueue
from tests.support.deliveries import chunk, whole


def route_queue(name: str, in_flight: int = 1, row: str | None = None) -> RouteQueue:
    return RouteQueue(name, Batching(1, 1000, 60.0), in_flight, 10.0, 3, row=row)


class Hand:
    """A handler, and what it was sent at which time."""

    def __init__(self, *route_queues: RouteQueue) -> None:
        self.worker = HandlerState()
        self.route_queues = {route_queue.name: route_queue for route_queue in route_queues}

    def give(self, route: str, *numbers: int, now: float = 0.0) -> None:
        """One message."""
        route_queue = self.route_queues[route]
        draft = Draft([whole(chunk(1))])
        bulks = [Handed(number, route, draft, route_queue.timeout, now) for number in numbers]
        self.worker.give(route_queue, bulks, now)

    def answer(self, *numbers: int, now: float = 1.0, seconds: float = 0.0) -> list[int]:
        held = [self.worker.bulks[n] for n in numbers if n in self.worker.bulks]
        bulks = Counter(handed.route for handed in held)
        reports = [Report(route, count, count, seconds * count) for route, count in bulks.items()]
        answered = self.worker.answer(self.route_queues, numbers, now, reports)
        return [handed.number for handed in answered]

    def room(self, route: str = "q") -> int:
        return self.worker.room(self.route_queues[route])


def given(in_flight: int, *messages: tuple[int, ...]) -> Hand:
    """A handler of one route that was sent these numbers, a message for each group."""
    hand = Hand(route_queue("q", in_flight))
    for numbers in messages:
        hand.give("q", *numbers)
    return hand


def test_two_unanswered_messages_are_enough() -> None:
    assert given(1, (1,)).room() == 1
    assert given(1, (1,), (2,)).room() == 0
    assert given(8, *((n,) for n in range(MESSAGES_MAX))).room() == 0


def test_who_runs_several_bulks_at_once_may_have_more_once_it_has_them() -> None:
    hand = given(4, (1,), (2,))
    hand.worker.received([1, 2])
    assert hand.room() == 2


def test_who_runs_bulks_one_by_one_gets_no_more_for_having_them() -> None:
    hand = given(1, (1,), (2,))
    hand.worker.received([1, 2])
    assert hand.room() == 0


def test_two_unheard_messages_are_enough_whatever_their_routes() -> None:
    hand = Hand(route_queue("a", 8), route_queue("b", 8), route_queue("c"))
    hand.give("a", 1)
    hand.give("b", 2)
    assert [hand.room(route) for route in "abc"] == [0, 0, 0]
    hand.worker.received([2])
    assert [hand.room(route) for route in "abc"] == [7, 7, 1]


def test_routes_of_one_row_share_its_room_and_leave_the_others_theirs() -> None:
    hand = Hand(route_queue("a", row=""), route_queue("b", row=""), route_queue("c", 8))
    hand.give("a", 1)
    hand.worker.received([1])
    hand.give("b", 2)
    hand.worker.received([2])
    assert [hand.room(route) for route in "abc"] == [0, 0, 8]
    hand.answer(1)
    assert [hand.room(route) for route in "abc"] == [1, 1, 8]


def test_a_bulk_behind_one_of_another_route_in_its_row_is_not_late_for_waiting() -> None:
    hand = Hand(route_queue("a", row=""), route_queue("b", row=""), route_queue("c"))
    hand.give("a", 1)
    hand.give("b", 2)
    hand.give("c", 3)
    assert hand.worker.bulks[2].started is None
    assert hand.worker.bulks[3].started == 0.0
    hand.answer(1, now=7.0)
    assert hand.worker.bulks[2].deadline == 17.0


def test_what_a_bulk_costs_is_learnt_for_each_route() -> None:
    hand = Hand(route_queue("quick", row=""), route_queue("slow", row=""))
    for number in range(0, 80, 2):
        hand.give("quick", number)
        hand.answer(number, seconds=1e-4)
        hand.give("slow", number + 1)
        hand.answer(number + 1, seconds=1.0)
    assert hand.room("quick") > 10
    assert hand.room("slow") == 1


@pytest.mark.parametrize("size", [1, 7, 200])
def test_answers_that_travel_together_teach_each_route_its_own_cost(size: int) -> None:
    """One settlement answers bulks of a quick and of a slow route, in whatever shares."""
    hand = Hand(route_queue("quick", row=""), route_queue("slow", row=""))
    for begin in range(0, 80 * (size + 1), size + 1):
        numbers = range(begin, begin + size)
        hand.give("quick", *numbers)
        hand.give("slow", begin + size)
        reports = [Report("quick", size, size, 1e-4 * size), Report("slow", 1, 1, 1.0)]
        hand.worker.answer(hand.route_queues, [*numbers, begin + size], 0.0, reports)
    assert hand.room("quick") > 10
    assert hand.room("slow") == 1


def test_a_message_that_is_answered_in_part_is_still_unanswered() -> None:
    hand = given(1, (1, 2), (3,))
    hand.answer(1)
    assert hand.room() == 0
    hand.answer(2)
    assert hand.room() == 1


def test_a_bulk_is_answered_once() -> None:
    hand = given(1, (1, 2))
    assert hand.answer(2, 7) == [2]
    assert hand.answer(2, 1) == [1]
    assert hand.answer(1, 2) == []


def test_quick_bulks_travel_together_up_to_a_limit() -> None:
    hand = given(1, (0,))
    for number in range(1, 40):
        hand.answer(number - 1, seconds=1e-4)
        hand.give("q", number)
    assert 10 <= hand.room() <= BULKS_MAX
    for number in range(40, 80):
        hand.answer(number - 1, seconds=1.0)
        hand.give("q", number)
    assert hand.room() == 0  # a slow one works on one bulk, and the next stays where it can go on
    hand.answer(79, seconds=1.0)
    assert hand.room() == 1


def test_quick_bulks_travel_together_however_long_their_way_is() -> None:
    hand = given(1, (0,))
    for number in range(1, 40):
        hand.answer(number - 1, now=number * 1.0, seconds=1e-4)
        hand.give("q", number, now=number * 1.0)
    assert hand.room() >= 10


def test_what_the_handler_does_not_know_is_sent_again_after_a_while() -> None:
    hand = given(1, (1,))
    hand.give("q", 2, now=5.0)
    unknown = hand.worker.unknown
    assert unknown({1, 2}, before=9.0) == []
    assert [handed.number for handed in unknown(set(), before=4.0)] == [1]
    assert [handed.number for handed in unknown({1}, before=9.0)] == [2]


def test_a_bulk_is_late_by_when_the_handler_could_begin_it() -> None:
    hand = given(1, (1,), (2,))
    hand.answer(1, now=9.0)
    late = hand.worker.latest()
    assert late is not None
    assert (late.number, late.deadline) == (2, 19.0)


def test_bulks_that_run_at_once_are_late_at_once() -> None:
    hand = given(2, (1, 2, 3))
    assert [handed.started for handed in hand.worker.bulks.values()] == [0.0, 0.0, None]


def test_a_bulk_that_was_overtaken_is_not_late_for_the_one_before_it() -> None:
    hand = given(1, (1,), (2,))
    hand.worker.arrange([2, 1])
    assert [bulk.deadline for bulk in hand.worker.bulks.values()] == [inf, 10.0]
    hand.answer(2, now=5.0)
    assert [bulk.deadline for bulk in hand.worker.bulks.values()] == [15.0]


def test_what_is_on_its_way_stands_behind_what_has_come() -> None:
    hand = given(1, (1,), (2,))
    hand.worker.arrange([1])
    assert [bulk.deadline for bulk in hand.worker.bulks.values()] == [10.0, inf]


def test_of_bulks_that_run_at_once_the_first_to_be_late_is_known_whatever_came_first() -> None:
    hand = given(2, (1,))
    hand.give("q", 2, now=5.0)
    hand.worker.arrange([2, 1])
    late = hand.worker.latest()
    assert late is not None
    assert (late.number, late.deadline) == (1, 10.0)
