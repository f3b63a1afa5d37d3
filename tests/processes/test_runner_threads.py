"""User code in threads of its own, as in a real system."""

from __future__ import annotations

import asyncio
import logging
import select
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from actors import App, HandlerActor, Message
from actors.logic.bulks.bulk import Piece
from actors.logic.messages.records import pack
from actors.logic.settlement.failure import Outcome
from actors.plan.plan import PipelinePlan, Plan, RoutePlan
from actors.roles.port import Ended, Started, StartFailed
from actors.roles.protocol import Bulk, Range, Settlement
from actors.usercode.runner import ClockCode, UserCode

DEADLINE = 10.0  #: seconds


def bulk(number: int, count: int = 1) -> Bulk:
    raw = pack("id", "words", b"", 0, 1.0, 0, b"1")
    ends = array("I", [len(raw) * (i + 1) for i in range(count)]).tobytes()
    piece = Piece("words", 1, number, raw * count, ends, 0)
    return Bulk(number, number, "words", (piece,), (1,) * count)


@contextmanager
def running(app: App, in_flight: int = 1) -> Iterator[UserCode]:
    plan = RoutePlan("words", ("words",), in_flight=in_flight)
    code = UserCode.for_routes(app, (plan,), "spool")
    try:
        code.start()
        yield code
    finally:
        code.close()


def events(code: Any, until: type, count: int = 1) -> list[Any]:
    """All that is reported until so many of a kind have come."""
    found: list[Any] = []
    end = time.monotonic() + DEADLINE
    while sum(isinstance(event, until) for event in found) < count:
        assert time.monotonic() < end, found
        select.select([code.fileno()], [], [], 0.1)
        found += code.turn(time.monotonic())
    return found


def numbers(code: UserCode, count: int) -> list[int]:
    """Bulks in the order of their answers."""
    found: list[int] = []
    while len(found) < count:
        found += [
            n for e in events(code, Settlement) if isinstance(e, Settlement) for n in e.numbers
        ]
    return found


def test_a_def_handler_runs_one_bulk_at_a_time_off_the_thread_of_its_owner() -> None:
    app = App()
    threads: set[int] = set()

    @app.route(["words"])
    def handler(messages: list[Message[Any]]) -> None:
        threads.add(threading.get_ident())

    with running(app) as code:
        assert events(code, Started) == [Started()]
        for number in range(1, 6):
            code.submit(bulk(number))
        assert numbers(code, 5) == [1, 2, 3, 4, 5]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_def_handlers_with_bulks_in_flight_run_in_as_many_threads() -> None:
    app = App()
    together = threading.Barrier(3)

    @app.route(["words"])
    def handler(messages: list[Message[Any]]) -> None:
        together.wait(DEADLINE)

    with running(app, in_flight=3) as code:
        code.submit(bulk(1, 3))
        assert sorted(numbers(code, 3)) == [1, 2, 3]


@pytest.mark.parametrize("error", [StopIteration, SystemExit, KeyboardInterrupt])
def test_what_a_def_handler_raises_in_a_thread_is_answered(error: type[BaseException]) -> None:
    app = App()

    @app.route(["words"])
    def handler(messages: list[Message[Any]]) -> None:
        raise error

    with running(app, in_flight=2) as code:
        code.submit(bulk(1))
        (done,) = [event for event in events(code, Settlement) if isinstance(event, Settlement)]
        assert done.singles[0].outcome == Outcome.RETRY


def test_async_handlers_share_their_loop_up_to_so_many_bulks() -> None:
    app = App()
    inside = 0
    most = 0

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1

    with running(app, in_flight=4) as code:
        code.submit(bulk(1, 12))
        assert sorted(numbers(code, 12)) == list(range(1, 13))
    assert most == 4


def test_a_task_of_the_users_that_exits_does_not_stop_the_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = App()
    kept: list[Any] = []

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None:
        async def leave() -> None:
            raise SystemExit(3)

        kept.append(asyncio.ensure_future(leave()))
        await asyncio.sleep(0)

    with running(app) as code, caplog.at_level(logging.CRITICAL):
        code.submit(bulk(1, 3))
        assert numbers(code, 3) == [1, 2, 3]
    assert all(isinstance(task.exception(), SystemExit) for task in kept)


def test_a_handler_that_cancels_its_own_task_is_answered() -> None:
    app = App()

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if messages[0].body == 1:
            await asyncio.sleep(0)

    with running(app) as code:
        code.submit(bulk(1, 2))
        assert numbers(code, 2) == [1, 2]


def test_a_start_that_fails_is_tried_again_where_it_failed() -> None:
    app = App()
    told: list[str] = []
    app.run_on_startup(lambda app: told.append("hook"))

    @app.route(["words"])
    class Index(HandlerActor):
        def on_start(self) -> None:
            told.append(f"on_start {id(self)}")
            if len(told) < 3:
                raise ConnectionError("no index\nyet")

        def handle(self, messages: list[Message[Any]]) -> None: ...

    with running(app) as code:
        assert events(code, StartFailed) == [
            StartFailed("route words: on_start raised ConnectionError: no index yet")
        ]
        code.start()
        assert events(code, Started) == [Started()]
    assert told[0] == "hook"
    assert len(told) == 3


def test_a_raising_or_lasting_end_keeps_no_hook_from_running(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("actors.usercode.app.STOP_SECONDS", 0.05)
    app = App()
    told: list[str] = []

    async def lasts(app: App) -> None:
        await asyncio.sleep(60)

    def leaves(app: App) -> None:
        raise SystemExit(3)

    app.run_on_shutdown(leaves)
    app.run_on_shutdown(lasts)
    app.run_on_shutdown(lambda app: told.append("last"))

    @app.route(["words"])
    class Index(HandlerActor):
        def handle(self, messages: list[Message[Any]]) -> None: ...

        def on_stop(self) -> None:
            raise KeyError("on_stop")

    with running(app) as code:
        events(code, Started)
        code.stop()
        assert events(code, Ended) == [Ended("on_stop raised KeyError: 'on_stop'")]
    assert told == ["last"]
    assert "a shutdown hook raised SystemExit: 3" in caplog.text
    assert "a shutdown hook did not end within" in caplog.text


def test_an_app_that_cannot_be_imported_is_told_in_one_line() -> None:
    plan = PipelinePlan("spool", "spool", "{}", (RoutePlan("words", ("words",)),), "no.such:app")
    code = UserCode((plan, "words"))
    code.start()
    (failed,) = events(code, StartFailed)
    code.close()
    assert "no.such:app" in failed.cause
    assert "\n" not in failed.cause


def test_a_process_started_by_a_handler_can_be_terminated() -> None:
    app = App()
    codes: list[int] = []

    @app.route(["words"])
    def handler(messages: list[Message[Any]]) -> None:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        child.terminate()
        codes.append(child.wait(DEADLINE))
        assert child.stdin is not None
        child.stdin.close()

    with running(app) as code:
        code.submit(bulk(1))
        numbers(code, 1)
    assert codes == [-15]


def test_closing_with_a_bulk_in_hand_leaves_nothing_behind() -> None:
    app = App()
    entered = threading.Event()
    cancelled = threading.Event()

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    before = set(threading.enumerate())
    with running(app) as code:
        code.submit(bulk(1))
        assert entered.wait(DEADLINE)
    assert cancelled.is_set()
    assert set(threading.enumerate()) == before
    code.submit(bulk(2))
    code.close()


def test_many_answers_of_one_turn_are_one() -> None:
    app = App()

    @app.route(["words"])
    async def handler(messages: list[Message[Any]]) -> None: ...

    with running(app, in_flight=8) as code:
        events(code, Started)
        code.submit(bulk(1, 100))
        assert len(numbers(code, 100)) == 100
        code.submit(bulk(200))
        assert events(code, Settlement) == [
            Settlement(0, (200,), (Range(1, 200, 200, int(Outcome.ACK)),))
        ]


def test_the_clock_runs_timers_and_hooks(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clock_app_of_this_test.py").write_text(
        "from actors import App\n"
        "app = App()\n"
        "told = []\n"
        "app.run_on_startup(lambda app: told.append('start'))\n"
        "app.run_on_shutdown(lambda app: told.append('stop'))\n"
        "@app.run_every(0.01)\n"
        "async def tick(app):\n"
        "    told.append('tick')\n"
        "@app.run_every(3600)\n"
        "def fails(app):\n"
        "    raise SystemExit(3)\n"
    )
    monkeypatch.chdir(tmp_path)
    code = ClockCode(Plan("clock_app_of_this_test:app", "test", (), clock=True))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code.start()
    events(code, Started)
    told = sys.modules["clock_app_of_this_test"].told
    end = time.monotonic() + DEADLINE
    while told.count("tick") < 5:
        assert time.monotonic() < end
        time.sleep(0.01)
    code.stop()
    assert events(code, Ended) == [Ended()]
    code.close()
    assert told[0] == "start"
    assert told[-1] == "stop"
