"""A joined host as a pipeline sees it."""

from __future__ import annotations

from actors.logic.supervision.lease import LEASE
from actors.logic.supervision.remote_node import LOST_AFTER_S, RemoteNode


def node() -> RemoteNode:
    return RemoteNode("two", "host#two", (), heard=0.0, stay=1)


def test_what_a_host_has_not_heard_of_yet_is_not_dead() -> None:
    two = node()
    assert two.write({"a": True}, 5)
    assert not two.is_dead("a", 4, ())
    assert two.is_dead("a", 5, ())
    assert not two.is_dead("a", 5, ("a",))
    assert not two.is_dead("unheard of", 5, ())


def test_what_is_to_end_is_dead_once_the_host_knows() -> None:
    two = node()
    two.write({"a": True, "b": True}, 1)
    two.write({"a": False, "b": True}, 2)
    assert two.assignment == ("b",)
    assert not two.is_dead("a", 1, ("b",))
    assert two.is_dead("a", 2, ("b",))
    assert two.is_dead("b", 1, ("a",))


def test_a_roster_has_a_new_number_only_where_it_says_something_new() -> None:
    two = node()
    assert two.write({"a": True}, 1)
    assert not two.write({"a": True}, 2)
    assert two.number == 1
    assert two.write({}, 2)
    assert (two.number, two.assignment) == (2, ())


def test_a_host_is_lost_only_after_all_that_it_ran_has_ended() -> None:
    assert LOST_AFTER_S > LEASE
    two = node()
    assert not two.lost(LOST_AFTER_S - 0.1)
    assert two.lost(LOST_AFTER_S)
