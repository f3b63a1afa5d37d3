"""Frames between two endpoints: in order, once, and told of, whatever becomes of sockets."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable, Iterator

import pytest

from actors.stages.link import exchange as module
from actors.stages.link import listener as listener
from actors.stages.link import session
from actors.stages.link.exchange import Exchange
from actors.stages.link.session import Identity
from tests.support.thespian_cast import until

KEY = os.urandom(32)
HOST = "127.0.0.1"


class End:
    """An endpoint with a listener of its own."""

    def __init__(self) -> None:
        self.listener = socket.create_server((HOST, 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        self.exchange = Exchange(self.listener, Identity((KEY,), self.address))

    def received(self) -> list[bytes]:
        return [body for _, body in self.exchange.listener.received]

    def close(self) -> None:
        self.exchange.close()
        self.listener.close()


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    both = End(), End()
    yield both
    for end in both:
        end.close()


def turned(ends: tuple[End, ...], condition: Callable[[], object]) -> None:
    """Turn both until it holds."""

    def turn() -> object:
        for end in ends:
            end.exchange.turn(0.001)
        return condition()

    until(turn)


def test_frames_arrive_in_order_and_are_told_of(ends: tuple[End, End]) -> None:
    one, other = ends
    bodies = [b"x" * size for size in (0, 1, 100_000, 3_000_000, 7)]
    told: list[bool | None] = []
    for body in bodies:
        one.exchange.post(other.address, body, told.append)
    turned(ends, lambda: len(told) == len(bodies))
    assert told == [True] * len(bodies)
    assert other.received() == bodies
    assert one.exchange.unsent == 0


def test_acknowledgements_that_nobody_waits_for_wake_nobody(ends: tuple[End, End]) -> None:
    one, other = ends
    one.exchange.post(other.address, b"first")
    turned(ends, lambda: len(other.received()) == 1)
    for number in range(10):
        one.exchange.post(other.address, b"next")
        turned((other,), lambda number=number: len(other.received()) == number + 2)  # type: ignore[misc]
    assert one.exchange.unsent == 1  # each was read when the next went out
    one.exchange.turn(0.01)
    assert one.exchange.unsent == 1
    one.exchange.hurry()
    turned(ends, lambda: one.exchange.unsent == 0)


def test_what_a_lost_connection_carried_goes_out_again_and_is_taken_once(
    ends: tuple[End, End],
) -> None:
    one, other = ends
    one.exchange.post(other.address, b"before")
    turned(ends, lambda: other.received() == [b"before"])
    for connection in list(other.exchange.listener._inside):  # its answer may still be unread
        other.exchange.listener._let_go(connection)
    one.exchange.post(other.address, b"after")
    turned(ends, lambda: b"after" in other.received())
    one.exchange.hurry()
    turned(ends, lambda: one.exchange.unsent == 0)
    assert other.received() == [b"before", b"after"]


def test_where_nobody_listens_that_is_told(ends: tuple[End, End]) -> None:
    one, other = ends
    other.exchange._selector.unregister(other.listener)
    other.listener.close()
    told: list[bool | None] = []
    one.exchange.post(other.address, b"body", told.append)
    assert told == []  # not before the next turn: who posts is not called back
    turned((one,), lambda: told == [False])
    assert one.exchange.unsent == 0


def test_a_frame_that_its_receiver_refuses_holds_up_the_others_for_a_while_only(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF", 0.001)
    one, other = ends
    monkeypatch.setattr(session, "MAX_BODY", 10)
    told: list[bool | None] = []
    one.exchange.post(other.address, b"more than ten bytes", told.append)
    one.exchange.post(other.address, b"ten bytes.", told.append)
    turned(ends, lambda: len(told) == 2)
    assert told == [None, True]
    assert other.received() == [b"ten bytes."]
    assert one.exchange.throttled_log.counts["lost a frame"] == 1


def test_what_waits_for_one_endpoint_is_bounded(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    one, other = ends
    for number in range(5):
        one.exchange.post(other.address, b"%d" % number)
    assert one.exchange.throttled_log.counts["lost a frame"] == 2
    turned(ends, lambda: other.received() == [b"0", b"1", b"2"])


def test_without_descriptors_nobody_is_let_in_until_there_are_some(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "REFUSED_RETRY_S", 0.05)
    one, other = ends
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    one.exchange.post(other.address, b"body")
    one.exchange.turn(0.0)  # its socket is made
    lowest = os.dup(0)
    os.close(lowest)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        turned(
            (other,), lambda: other.exchange.throttled_log.counts["could not accept a connection"]
        )
        assert not other.exchange._selector.select(0.0)  # though somebody still knocks
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    turned(ends, lambda: other.received() == [b"body"])


def test_a_watched_descriptor_that_was_closed_and_opened_again_is_watched(
    ends: tuple[End, End],
) -> None:
    one, _ = ends
    for _ in range(3):
        reader, writer = os.pipe()
        one.exchange.watch([reader, reader])
        assert one.exchange.turn(0) == []
        os.write(writer, b"x")
        assert one.exchange.turn(1) == [reader]
        os.close(reader)
        os.close(writer)
    one.exchange.watch([reader])  # closed by now: left out
    assert one.exchange.turn(0) == []
