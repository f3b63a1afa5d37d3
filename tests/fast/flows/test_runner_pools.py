"""The handlers of one pool in the threads of one process."""

from __future__ import annotations

import asyncio
import select
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from actors import App, HandlerActor, Message
from actors.logic.bulks.bulk import Piece
from actors.logic.messages.records import pack
from actors.logic.settlement.failure import Outcome
from actors.plan.plan import RoutePlan
from actors.roles.port import Started
from actors.roles.protocol import Bulk, Range, Settlement
from actors.usercode.runner import UserCode

DEADLINE = 10.0  #: seconds


def bulk(route: str, number: int) -> Bulk:
    raw = pack("id", route, b"", 0, 1.0, 0, b"1")
    ends = array("I", [len(raw)]).tobytes()
    return Bulk(number, number, route, (Piece(route, 1, number, raw, ends, 0),), (1,))


def serial(name: str) -> RoutePlan:
    return RoutePlan(name, (name,), pool="p", serial=True)


def several(name: str, in_flight: int) -> RoutePlan:
    return RoutePlan(name, (name,), pool="p", in_flight=in_flight)


@contextmanager
def running(app: App, *plans: RoutePlan) -> Iterator[UserCode]:
    code = UserCode.for_routes(app, plans, "spool")
    try:
        code.start()
        select.select([code.fileno()], [], [], DEADLINE)
        assert code.turn(time.monotonic()) == [Started()]
        yield code
    finally:
        code.close()


def answers(code: UserCode, count: int) -> dict[int, Settlement]:
    """What became of so many bulks, in the order of their answers."""
    found: dict[int, Settlement] = {}
    end = time.monotonic() + DEADLINE
    while len(found) < count:
        assert time.monotonic() < end, found
        select.select([code.fileno()], [], [], 0.1)
        dones = [event for event in code.turn(time.monotonic()) if isinstance(event, Settlement)]
        found |= {number: done for done in dones for number in done.numbers}
    return found


def test_def_handlers_take_turns_in_one_thread_that_hooks_and_instances_live_in_too() -> None:
    app = App()
    threads: set[int] = set()
    inside = threading.Lock()

    @app.run_on_startup
    def begin(app: App) -> None:
        threads.add(threading.get_ident())

    class Handle(HandlerActor):
        def on_start(self) -> None:
            threads.add(threading.get_ident())

        def handle(self, messages: list[Message[Any]]) -> None:
            assert inside.acquire(blocking=False)
            threads.add(threading.get_ident())
            inside.release()

    app.route(["a"])(Handle)
    app.route(["b"])(Handle)
    with running(app, serial("a"), serial("b")) as code:
        for number in range(1, 11):
            code.submit(bulk("ab"[number % 2], number))
        assert list(answers(code, 10)) == list(range(1, 11))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_def_handler_that_lasts_holds_up_no_async_one_and_its_instance_stays_in_its_thread() -> (
    None
):
    app = App()
    threads: list[int] = []
    gate = threading.Event()

    class Long(HandlerActor):
        def on_start(self) -> None:
            threads.append(threading.get_ident())

        def handle(self, messages: list[Message[Any]]) -> None:
            threads.append(threading.get_ident())
            assert gate.wait(DEADLINE)

    app.route(["long"])(Long)

    @app.route(["quick"])
    async def quick(messages: list[Message[Any]]) -> None:
        await asyncio.sleep(0)
        threads.append(threading.get_ident())

    with running(app, serial("long"), several("quick", 4)) as code:
        code.submit(bulk("long", 1))
        code.submit(bulk("quick", 2))
        assert list(answers(code, 1)) == [2]
        gate.set()
        assert list(answers(code, 1)) == [1]
    (start, *handled) = threads
    assert handled.count(start) == 1  # the quick one ran elsewhere, on the loop


def test_in_flight_counts_for_each_route() -> None:
    app = App()
    most: dict[str, int] = {}
    inside: dict[str, int] = {}

    async def handle(messages: list[Message[Any]]) -> None:
        route = messages[0].route
        inside[route] = inside.get(route, 0) + 1
        most[route] = max(most.get(route, 0), inside[route])
        await asyncio.sleep(0.01)
        inside[route] -= 1

    for name in "ab":
        app.route([name])(handle)
    with running(app, several("a", 2), several("b", 5)) as code:
        for number in range(1, 21):
            code.submit(bulk("ab"[number % 2], number))
        answers(code, 20)
    assert most == {"a": 2, "b": 5}


def test_marks_and_errors_are_each_bulks_own_in_threads_at_once() -> None:
    app = App()
    together = threading.Barrier(3)

    @app.route(["words"])
    def handle(messages: list[Message[Any]]) -> None:
        (message,) = messages
        together.wait(DEADLINE)
        if message.id == "reject":
            message.reject(requeue=False)
        elif message.id == "fail":
            raise KeyError("as told")

    with running(app, several("words", 3)) as code:
        for number, name in enumerate(("reject", "fail", "fine"), 1):
            raw = pack(name, "words", b"", 0, 1.0, 0, b"1")
            ends = array("I", [len(raw)]).tobytes()
            piece = Piece("words", 1, number, raw, ends, 0)
            code.submit(Bulk(number, number, "words", (piece,), (1,)))
        done = answers(code, 3)
    assert Range(1, 1, 1, Outcome.REJECT) in done[1].ranges
    assert [single.position for single in done[2].singles] == [2]
    assert Range(1, 3, 3, Outcome.ACK) in done[3].ranges
