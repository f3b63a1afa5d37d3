"""Messages of one key stay one after another, whatever becomes of the first."""

from __future__ import annotations

from actors.logic.bulks.bulk import Chunk, Draft
from actors.logic.bulks.ordering import Ordering
from tests.support.deliveries import chunk, one, positions, whole


def ordering(
    size: int = 10, most: int = 1000, interval: float = 60.0, last_alone: int = 0
) -> Ordering:
    """A key is the first letter of a body."""
    return Ordering(size, most, interval, last_alone, lambda raw: raw[:1].decode())


def filled(*bodies: bytes, size: int = 10) -> tuple[Ordering, Chunk]:
    route_queue, arrived = ordering(size), chunk(bodies)
    route_queue.add(arrived, 0.0)
    return route_queue, arrived


def taken(route_queue: Ordering, now: float = 0.0) -> Draft:
    draft = route_queue.take(now, flush=True)
    assert draft is not None
    return draft


def test_a_key_in_hand_keeps_its_line_waiting_and_no_other() -> None:
    route_queue, arrived = filled(b"a1", b"a2", b"b1", size=1)
    assert positions(route_queue.take(0.0)) == [1]
    assert positions(route_queue.take(0.0)) == [3]
    assert route_queue.take(0.0) is None
    route_queue.settled(one(arrived, 0))
    assert positions(route_queue.take(0.0)) == [2]
    assert route_queue.size == 0


def test_several_of_a_key_share_a_bulk_in_their_order() -> None:
    route_queue, _ = filled(b"a1", b"b1", b"a2")
    assert positions(route_queue.take(0.0, flush=True)) == [1, 3, 2]


def test_what_failed_together_comes_back_in_its_order() -> None:
    route_queue, arrived = filled(b"a1", b"a2", b"a3", b"a4", size=3)
    taken(route_queue)
    for index in range(3):
        route_queue.again([(arrived, index, 0.0)], 0.0)
    assert positions(route_queue.take(0.0, flush=True)) == [1, 2, 3]


def test_those_behind_a_failed_one_wait_with_it() -> None:
    route_queue, arrived = filled(b"a1", b"a2", b"b1", size=1)
    taken(route_queue)
    route_queue.again([(arrived, 0, 5.0)], 0.0)
    assert positions(route_queue.take(0.0)) == [3]
    assert route_queue.take(4.9) is None
    assert positions(route_queue.take(5.0)) == [1]


def test_a_failed_one_is_due_when_its_bulk_is_though_its_time_is_over() -> None:
    route_queue, arrived = filled(b"a1")
    taken(route_queue)
    route_queue.again([(arrived, 0, 5.0)], 1.0)
    assert route_queue.due(1.0) == 5.0
    assert route_queue.take(5.0) is None
    assert route_queue.due(5.0) == 61.0
    assert positions(route_queue.take(61.0)) == [1]


def test_who_waits_behind_a_failed_one_is_due_in_its_own_time() -> None:
    route_queue = ordering()
    arrived = chunk([b"a1"])
    route_queue.add(arrived, 0.0)
    taken(route_queue)
    route_queue.add(chunk([b"a2"], number=2, first=2), 0.0)
    route_queue.again([(arrived, 0, 5.0)], 4.0)
    assert route_queue.due(5.0) == 60.0
    assert positions(route_queue.take(60.0)) == [1, 2]


def test_a_busy_key_starves_no_other() -> None:
    route_queue, arrived = filled(b"a1", b"a2", b"b1", b"b2", b"c1", size=1)
    first, second = taken(route_queue), taken(route_queue)
    route_queue.settled(one(arrived, 0))
    third = taken(route_queue)
    assert [positions(draft) for draft in (first, second, third)] == [[1], [3], [5]]


def test_who_is_to_run_alone_waits_for_no_bulk_to_fill() -> None:
    route_queue, arrived = filled(b"a1", b"b1", size=2)
    taken(route_queue)
    route_queue.settled(one(arrived, 0))
    route_queue.add(chunk([b"c1"], number=2, first=3), 1.0)
    route_queue.again([(arrived, 1, 0.0)], 1.0, alone=True)
    draft = route_queue.take(1.0)
    assert draft is not None
    assert draft.alone
    assert positions(draft) == [2]


def test_a_bulk_that_the_next_does_not_fit_into_is_full() -> None:
    route_queue = ordering(most=10)
    route_queue.add(chunk([b"a" * 6, b"b" * 6]), 0.0)
    assert positions(route_queue.take(0.0)) == [1]
    assert route_queue.take(0.0) is None
    assert positions(route_queue.take(60.0)) == [2]


def test_a_message_larger_than_a_bulk_may_be_travels_by_itself() -> None:
    route_queue = ordering(most=10)
    route_queue.add(chunk([b"a" * 50, b"a"]), 0.0)
    assert positions(route_queue.take(0.0)) == [1]


def test_an_ended_epoch_leaves_nothing_behind() -> None:
    route_queue, arrived = filled(b"a1", b"a2", b"b1", size=1)
    taken(route_queue)
    assert sorted(part.start for part in route_queue.drop("q", 2)) == [1, 2]
    route_queue.settled(one(arrived, 0))
    assert route_queue.size == 0
    assert not route_queue._keys
    assert not route_queue._in_hand
    assert not route_queue._route_queues


def test_an_ended_epoch_of_another_queue_changes_nothing() -> None:
    route_queue, _ = filled(b"a1")
    assert route_queue.drop("other", 9) == []
    assert route_queue.size == 1


def test_a_drain_returns_the_whole_line_that_waits() -> None:
    route_queue, arrived = filled(b"a1", b"a2", b"a3", b"b1")
    taken(route_queue)
    route_queue.settled(one(arrived, 3))
    route_queue.settled(one(arrived, 2))
    route_queue.again([(arrived, 0, 0.0)], 0.0)
    route_queue.again([(arrived, 1, 9.0)], 0.0)
    assert [(index, failed) for _, index, failed in route_queue.give_back(1.0)] == [
        (0, True),
        (1, True),
    ]
    assert route_queue.size == 0
    assert not route_queue._keys


def test_a_delivery_that_is_settled_twice_frees_its_key_once() -> None:
    route_queue, arrived = filled(b"a1", b"a2", size=2)
    taken(route_queue)
    route_queue.settled(whole(arrived))
    route_queue.settled(whole(arrived))
    assert not route_queue._in_hand


def test_what_is_withheld_is_in_no_line() -> None:
    ordering = Ordering(10, 1000, 60.0, 0, lambda raw: "one key")
    made = chunk(3)
    made.withheld.add(1)
    ordering.add(made, 0.0)
    assert ordering.size == 2
    ordering.settled(one(made, 1))
    assert positions(ordering.take(0.0, flush=True)) == [1, 3]
