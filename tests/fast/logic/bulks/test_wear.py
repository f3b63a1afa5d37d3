"""When a process has done enough."""

from __future__ import annotations

from actors.logic.bulks.wear import MIB, Wear, least


def test_the_lowest_limit_of_routes_that_share_a_process_counts() -> None:
    assert least([0, 10, 3, 0]) == 3
    assert least([0, 0]) == 0


def test_without_limits_a_process_works_for_ever() -> None:
    wear = Wear(0, 0)
    wear.take(10**9)
    assert not wear.weighs
    assert wear.cause(memory=10**12) == ""


def test_it_has_done_enough_once_it_was_given_as_many_messages_as_it_may() -> None:
    wear = Wear(10, 0)
    wear.take(9)
    assert wear.cause() == ""
    wear.take(3)
    assert wear.cause() == "12 messages, MAX_MESSAGES is 10"


def test_it_has_done_enough_once_it_holds_as_much_memory_as_it_may() -> None:
    wear = Wear(0, 64 * MIB)
    assert wear.weighs
    assert wear.cause(64 * MIB - 1) == ""
    assert wear.cause(65 * MIB) == "65 MiB of memory, MAX_MEMORY is 64 MiB"
