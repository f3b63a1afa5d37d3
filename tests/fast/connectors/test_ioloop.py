"""The loop does what is due and never waits."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator

import pytest

from actors.connectors.rabbitmq.ioloop import IOLoop


@pytest.fixture
def loop() -> Iterator[IOLoop]:
    loop = IOLoop()
    yield loop
    loop.close()


def ready(loop: IOLoop, seconds: float = 0.0) -> bool:
    return bool(select.select([loop.fileno()], [], [], seconds)[0])


def test_timers_run_in_the_order_in_which_they_are_due(loop: IOLoop) -> None:
    ran: list[str] = []
    for delay, name in (0.02, "b"), (0.0, "a"), (0.02, "c"):
        loop.call_later(delay, lambda name=name: ran.append(name))  # type: ignore[misc]
    while loop.deadline() is not None:
        loop.turn(0.01)
    assert ran == ["a", "b", "c"]


def test_a_timer_that_was_removed_neither_runs_nor_is_waited_for(loop: IOLoop) -> None:
    loop.remove_timeout(loop.call_later(0.0, lambda: pytest.fail("it ran")))
    assert loop.deadline() is None
    loop.turn()


def test_a_callback_from_another_thread_makes_the_descriptor_readable(loop: IOLoop) -> None:
    called = threading.Event()
    thread = threading.Thread(target=loop.add_callback, args=[called.set])
    thread.start()
    assert ready(loop, 5.0)
    loop.turn()
    thread.join()
    assert called.is_set()
    assert not ready(loop)


def test_a_callback_that_adds_one_does_not_keep_the_turn(loop: IOLoop) -> None:
    def again() -> None:
        loop.add_callback(again)

    again()
    loop.turn()
    assert ready(loop)


def test_a_handler_that_another_one_removed_is_not_called(loop: IOLoop) -> None:
    left, right = socket.socketpair()
    with left, right:
        called: list[int] = []

        def handle(fd: int, events: int) -> None:
            called.append(fd)
            other = right if fd == left.fileno() else left
            loop.remove_handler(other.fileno())

        for end in (left, right):
            loop.add_handler(end.fileno(), handle, loop.WRITE)
        loop.turn()
        assert len(called) == 1


def test_a_callback_after_the_end_is_ignored() -> None:
    loop = IOLoop()
    loop.close()
    loop.add_callback(lambda: pytest.fail("it ran"))


def test_a_timer_that_the_end_came_before_is_neither_waited_for_nor_run() -> None:
    loop = IOLoop()
    loop.call_later(0.0, lambda: pytest.fail("it ran"))
    loop.close()
    loop.call_later(0.0, lambda: pytest.fail("it ran"))
    assert loop.deadline() is None
    loop.turn()
    loop.close()


def test_nobody_may_block_in_it(loop: IOLoop) -> None:
    with pytest.raises(RuntimeError, match="owner"):
        loop.start()
