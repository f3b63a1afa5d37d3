"""User code in virtual time, on the thread of its owner."""

from __future__ import annotations

import asyncio
import time
from array import array
from dataclasses import replace
from typing import Any

import pytest

from actors import App, Message, Options
from actors.logic.bulks.bulk import Piece
from actors.logic.messages.records import pack
from actors.plan.plan import RoutePlan
from actors.roles.port import Ended, Started
from actors.roles.protocol import Bulk, Settlement
from actors.usercode.runner import InlineClockCode, InlineUserCode


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def bulk(number: int) -> Bulk:
    raw = pack("id", "words", b"", 0, 1.0, 0, b"1")
    piece = Piece("words", 1, number, raw, array("I", [len(raw)]).tobytes(), 0)
    return Bulk(number, number, "words", (piece,), (1,))


def inline(app: App, clock: Clock, in_flight: int = 1, **more: Any) -> InlineUserCode:
    plan = RoutePlan("words", ("words",), in_flight=in_flight)
    code = InlineUserCode(app, (plan,), "spool", clock, **more)
    code.start()
    assert code.deadline() == 0.0
    assert code.turn(0.0) == [Started()]
    assert code.deadline() is None
    return code


def test_a_handler_sleeps_in_virtual_time() -> None:
    app, clock = App(), Clock()

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None:
        await asyncio.sleep(3600.0)

    began = time.monotonic()
    code = inline(app, clock)
    code.submit(bulk(1))
    assert code.turn(0.0) == []
    assert code.deadline() == 3600.0
    clock.now = 3599.0
    assert code.turn(clock.now) == []
    clock.now = 3600.0
    (done,) = code.turn(clock.now)
    assert isinstance(done, Settlement)
    assert code.deadline() is None
    code.close()
    assert time.monotonic() - began < 10


def test_timeouts_and_threads_of_the_users_follow_the_virtual_time() -> None:
    app, clock = App(), Clock()
    told: list[Any] = []

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None:
        told.append(await asyncio.to_thread(lambda: "threaded"))
        try:
            async with asyncio.timeout(5.0):
                await asyncio.Event().wait()
        except TimeoutError:
            told.append(clock.now)

    code = inline(app, clock)
    code.submit(bulk(1))
    code.turn(0.0)
    clock.now = 5.0
    assert len(code.turn(5.0)) == 1
    assert told == ["threaded", 5.0]
    code.close()


def test_what_user_code_raises_is_kept() -> None:
    app = App()
    error = KeyError("lost")

    @app.route(["words"])
    def handler(messages: list[Message[Any]]) -> None:
        raise error

    code = inline(app, Clock())
    code.submit(bulk(1))
    code.turn(0.0)
    code.close()
    assert code.raised == [("words", error)]


def test_a_lethal_exception_is_the_death_of_the_process() -> None:
    class Crash(BaseException): ...

    app = App()

    @app.route(["words"])
    def handler(messages: list[Message[Any]]) -> None:
        raise Crash

    code = inline(app, Clock(), lethal=(Crash,))
    code.submit(bulk(1))
    with pytest.raises(Crash):
        code.turn(0.0)
    code.close()


def test_several_handlers_of_one_app_each_run_its_hooks_unless_told_not_to() -> None:
    app, clock = App(), Clock()
    app.route(["words"])(lambda messages: None)
    ran: list[int] = []

    @app.run_on_startup
    def hook(app: App) -> None:
        app["number"] = len(ran)
        ran.append(1)

    codes = [inline(app, clock), inline(app, clock), inline(app, clock, hooks=False)]
    assert len(ran) == 2
    with pytest.raises(RuntimeError, match="frozen"):
        app["number"] = 7
    for code in codes:
        code.close()


def test_closing_with_a_bulk_in_hand_cancels_it() -> None:
    app, clock = App(), Clock()
    cancelled: list[bool] = []

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None:
        try:
            await asyncio.sleep(60.0)
        finally:
            cancelled.append(True)

    code = inline(app, clock)
    code.submit(bulk(1))
    code.turn(0.0)
    code.close()
    assert cancelled == [True]
    code.close()
    assert code.turn(1.0) == []


def test_timers_begin_at_once_skip_what_is_late_and_keep_their_beat() -> None:
    app, clock = App(), Clock()
    runs: list[float] = []

    @app.run_every(10.0)
    def tick(app: App) -> None:
        runs.append(clock.now)

    code = InlineClockCode(app, clock)
    code.start()
    for now in (0.0, 10.0, 35.0, 39.0, 40.0):
        clock.now = now
        code.turn(now)
    assert runs == [0.0, 10.0, 35.0, 40.0]
    assert code.deadline() == 50.0
    code.stop()
    assert code.turn(40.0) == [Ended()]
    assert code.deadline() is None
    code.close()


def test_a_timer_runs_so_often_at_once_and_no_more() -> None:
    app, clock = App(), Clock()
    runs: list[float] = []

    @app.run_every(1.0, options={Options.MAX_CONCURRENCY: 2})
    async def tick(app: App) -> None:
        runs.append(clock.now)
        await asyncio.sleep(2.5)
        raise KeyError("a failed run frees its slot")

    code = InlineClockCode(app, clock)
    code.start()
    code.turn(0.0)
    while (due := code.deadline()) is not None and due <= 5.0:
        clock.now = due
        code.turn(due)
    assert runs == [0.0, 1.0, 3.0, 4.0]
    assert len(code.raised) == 2
    code.close()


def test_the_answers_of_bulks_that_take_no_time_go_together_and_of_others_at_once() -> None:
    app, clock = App(), Clock()
    naps = iter([0.0, 0.0, 1.0, 0.0, 1.0])

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None:
        await asyncio.sleep(next(naps))

    code = inline(app, clock)
    one = bulk(1)
    code.submit(replace(one, pieces=one.pieces * 5, sizes=one.sizes * 5))
    answers: list[tuple[int, ...]] = []
    for second in range(4):
        clock.now = float(second)
        answers += [done.numbers for done in code.turn(clock.now)]
    assert answers == [(1, 2, 3), (4, 5)]
    code.close()
