"""Hosts that do not answer: nothing waits for them, and one message a second tries."""

from actors.logic.supervision.peers import PROBE_INTERVAL_S, UnreachableNodes


def test_a_host_that_was_never_lost_is_sent_to() -> None:
    assert UnreachableNodes().admits("a", 0.0)


def test_a_lost_host_is_tried_once_each_pause() -> None:
    unreachable = UnreachableNodes()
    unreachable.lose("a", 10.0)
    admitted = [
        at for at in (10.0, 10.5, 10.9, 11.0, 11.1, 11.9, 12.0) if unreachable.admits("a", at)
    ]
    assert admitted == [10.0 + PROBE_INTERVAL_S, 10.0 + 2 * PROBE_INTERVAL_S]
    assert unreachable.admits("b", 10.0)


def test_a_host_that_has_answered_is_as_before() -> None:
    unreachable = UnreachableNodes()
    unreachable.lose("a", 10.0)
    unreachable.find("a")
    unreachable.find("b")
    assert all(unreachable.admits("a", 10.0) for _ in range(3))
