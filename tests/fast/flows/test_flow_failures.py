"""What goes wrong: the one table, retries, timeouts, crashes, and no harm to neighbours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import Actions, App, Events, Message, Options, Retry
from actors.errors import HandlerCrashed, InvalidMessage
from actors.plan.build import build_plan
from actors.testing import InMemorySystem, crash
from tests.support.flow import ACK, DEAD_LETTER, KINDS, REJECT, REQUEUE, app_on

both_kinds = pytest.mark.parametrize("kind", KINDS)


def failing(kind: str, error: BaseException, on_exception: Any = None, **options: Any) -> App:
    """An app whose one handler always raises."""
    app = app_on(kind)
    table = {} if on_exception is None else {Events.ON_EXCEPTION: on_exception}

    @app.route(["q"], options={**options, **table})
    async def handle(messages: list[Message[Any]]) -> None:
        raise error

    return app


class Intervals:
    """Notes when a message is handed out."""

    def __init__(self, app: App, options: dict[Any, Any], fails: bool = True) -> None:
        self.times: list[float] = []
        self.system: InMemorySystem

        @app.route(["q"], options=options)
        async def handle(messages: list[Message[int]]) -> None:
            self.times.append(self.system.stage.now)
            if fails:
                raise RuntimeError("always")

    def all(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.times, self.times[1:], strict=False)]


# ── the table ──────────────────────────────────────────────────────────────────


@both_kinds
def test_the_most_specific_class_decides(kind: str) -> None:
    table = {Exception: REJECT, LookupError: DEAD_LETTER, KeyError: ACK}
    for error, action in [
        (ValueError("v"), REJECT), (IndexError("i"), DEAD_LETTER), (KeyError("k"), ACK),
    ]:  # fmt: skip
        with InMemorySystem(failing(kind, error, table), raise_errors=False) as system:
            (sent,) = system.deliver("q", [1])
            assert sent.actions == [action]


@both_kinds
def test_a_dead_letter_says_why(kind: str) -> None:
    app = failing(kind, ValueError("a bad word"), DEAD_LETTER)
    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("q", [1])
        (dead,) = system.dead("q")
        assert (dead.id, dead.body, dead.reason) == (sent.id, b"1", "a bad word")
        (route,) = system.status()["routes"]
        assert (route["dead"], route["last_error"]) == (1, "ValueError: a bad word")


@both_kinds
def test_an_invalid_message_is_settled_before_the_call(kind: str) -> None:
    app = app_on(kind)
    seen: list[int] = []

    @app.route(["q"], options={Options.BULK_SIZE: 3})
    async def handle(messages: list[Message[int]]) -> None:
        seen.extend(message.body for message in messages)

    with InMemorySystem(app) as system:
        sent = system.deliver("q", [1, "no number", 3])
        assert [one.actions for one in sent] == [[ACK], [DEAD_LETTER], [ACK]]
        assert seen == [1, 3]


@both_kinds
@pytest.mark.parametrize("error", [InvalidMessage, HandlerCrashed, TimeoutError])
def test_what_befalls_a_message_outside_its_handler_can_be_named(
    kind: str, error: type[Exception]
) -> None:
    app = app_on(kind)

    @app.route(["q"], options={
        Options.MAX_CRASHES: 1, Options.TIMEOUT: 5.0, Events.ON_EXCEPTION: {error: REJECT},
    })  # fmt: skip
    async def handle(messages: list[Message[int]]) -> None:
        if error is HandlerCrashed:
            crash()
        await asyncio.sleep(1e9)

    with InMemorySystem(app) as system:
        (sent,) = system.deliver("q", ["text" if error is InvalidMessage else 1])
        system.advance(10.0)
        assert sent.actions == [REJECT]


@both_kinds
@pytest.mark.parametrize("options", [{}, {Options.ORDER_BY: "routing_key"}, {Options.POOL: "p"}])
def test_the_default_is_twenty_attempts_over_hours(kind: str, options: dict[Any, Any]) -> None:
    app = app_on(kind)
    intervals = Intervals(app, options)
    with InMemorySystem(app, raise_errors=False) as intervals.system:
        (sent,) = intervals.system.deliver("q", [1])
        intervals.system.advance(6 * 3600.0)
        assert DEAD_LETTER not in sent.actions
        intervals.system.advance(3 * 3600.0)
    assert sent.attempts == 20
    if not options.get(Options.ORDER_BY):  # whose retries are the worker's own
        assert sent.actions == [REQUEUE] * 19 + [DEAD_LETTER]
    assert (sent.reason, len(intervals.times)) == ("always", 20)
    for interval, bound in zip(
        intervals.all(), [2**n for n in range(12)] + [3600] * 7, strict=True
    ):
        assert 0.9 * bound <= interval <= bound


# ── requeues and retries ───────────────────────────────────────────────────────


@both_kinds
def test_a_requeue_never_spins(kind: str) -> None:
    """The first comes back at once, then after 1, 2, 4 … 60 s, up to a tenth less."""
    app = app_on(kind)
    intervals = Intervals(app, {Events.ON_EXCEPTION: REQUEUE})
    with InMemorySystem(app, raise_errors=False) as intervals.system:
        intervals.system.deliver("q", [1])
        intervals.system.advance(300.0)
    assert intervals.times[:2] == [0.0, 0.0]
    for interval, bound in zip(intervals.all()[1:], [1, 2, 4, 8, 16, 32, *[60] * 9], strict=False):
        assert 0.9 * bound <= interval <= bound
    assert len(intervals.times) >= 10


@both_kinds
def test_held_messages_leave_half_the_prefetch_to_others(kind: str) -> None:
    """Where more fail they wait for a second at the most, so that others get through."""
    app = app_on(kind, prefetch=10)
    calls: list[str] = []

    @app.route(["q"], options={Events.ON_EXCEPTION: REQUEUE})
    async def handle(messages: list[Message[str]]) -> None:
        calls.append(messages[0].body)
        if messages[0].body == "bad":
            raise RuntimeError("always")

    with InMemorySystem(app, raise_errors=False) as system:
        system.deliver("q", ["bad"] * 9)
        system.advance(10.0)
        (good,) = system.deliver("q", ["good"])
        assert good.actions == [ACK]
        system.deliver("q", ["bad"] * 50)
        calls.clear()
        system.advance(60.0)
        assert 60 < len(calls) <= 10 * 61  # it neither starves nor spins


@both_kinds
def test_what_finds_no_room_to_snooze_waits_outside(kind: str) -> None:
    app = app_on(kind, prefetch=4)
    times: list[float] = []

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        times.append(system.stage.now)
        if system.stage.now < 30.0:
            messages[0].snooze(30.0)

    with InMemorySystem(app) as system:
        sent = system.deliver("q", range(10))
        system.advance(30.0)
        assert times == [0.0] * 10 + [30.0] * 10
        assert all(one.actions[-1] == ACK for one in sent)


@both_kinds
def test_a_retry_waits_outside_the_queue_and_ends_as_a_dead_letter(kind: str) -> None:
    app = app_on(kind, prefetch=1)
    retry = Retry(attempts=5, first=1.0, factor=3.0, cap=5.0, jitter=False)
    intervals = Intervals(app, {Events.ON_EXCEPTION: {RuntimeError: retry}})
    with InMemorySystem(app, raise_errors=False) as intervals.system:
        (sent,) = intervals.system.deliver("q", [1])
        assert intervals.system.status()["totals"]["in_flight"] == 0
        intervals.system.advance(60.0)
        assert intervals.all() == pytest.approx([1.0, 3.0, 5.0, 5.0])
        assert sent.actions == [REQUEUE] * 4 + [DEAD_LETTER]
        totals = intervals.system.status()["totals"]
        assert (totals["retried"], totals["dead"]) == (4, 1)


@both_kinds
def test_a_copy_that_fails_is_tried_again_and_the_original_kept(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with InMemorySystem(
        failing(kind, RuntimeError("always"), DEAD_LETTER), raise_errors=False
    ) as system:
        system.world.storing = False
        (sent,) = system.deliver("q", [1])
        system.advance(70.0)
        assert (sent.actions, system.dead("q")) == ([], [])
        told = [r.message for r in caplog.records if "copies are refused" in r.message]
        assert len(told) == 2  # once a minute
        (route,) = system.status()["routes"]
        assert route["last_error"] == "dead letters of q: copies are refused"
        system.world.storing = True
        system.advance(10.0)
        assert sent.actions == [DEAD_LETTER]


@both_kinds
def test_a_failed_bulk_comes_back_in_smaller_ones_with_its_marks_kept(kind: str) -> None:
    app = app_on(kind)
    sizes: list[int] = []

    @app.route(["q"], options={
        Options.BULK_SIZE: 16, Events.ON_EXCEPTION: Retry(attempts=4, first=1.0),
    })  # fmt: skip
    async def handle(messages: list[Message[int]]) -> None:
        sizes.append(len(messages))
        for message in messages:
            if message.body < 8:
                message.accept()
        if any(message.body == 15 for message in messages):
            raise RuntimeError("number fifteen")

    with InMemorySystem(app, raise_errors=False) as system:
        sent = system.deliver("q", range(16))
        system.advance(600.0)
        assert sizes[:3] == [16, 4, 4]
        assert [one.actions for one in sent[:8]] == [[ACK]] * 8
        assert all(one.actions[-1] == ACK for one in sent[8:15])
        assert sent[15].actions[-1] == DEAD_LETTER
        assert (sent[15].attempts, sizes[-1]) == (4, 1)


@both_kinds
@pytest.mark.parametrize("ill", ["raises", "hangs", "crashes"])
def test_the_last_attempt_is_made_alone(kind: str, ill: str) -> None:
    """So that nobody has his last attempt cost by a neighbour, whatever that one does."""
    app = app_on(kind)

    @app.route(["q"], options={
        Options.BULK_SIZE: 8, Options.TIMEOUT: 5.0, Options.BULK_FLUSH_INTERVAL: 1.0,
        Events.ON_EXCEPTION: Retry(attempts=2, first=1.0),
    })  # fmt: skip
    async def handle(messages: list[Message[int]]) -> None:
        if any(message.body == 3 for message in messages):
            if ill == "hangs":
                await asyncio.sleep(1e9)
            if ill == "crashes":
                crash()
            raise RuntimeError("number three")

    with InMemorySystem(app, raise_errors=False) as system:
        sent = system.deliver("q", range(8))
        system.advance(600.0)
        assert [one.body for one in system.dead("q")] == [b"3"]
        assert all(one.actions[-1] == ACK for one in sent if one.body != b"3")


# ── time ───────────────────────────────────────────────────────────────────────


@both_kinds
def test_a_handler_that_never_answers_is_killed(kind: str) -> None:
    app = app_on(kind)

    @app.route(["q"], options={Options.TIMEOUT: 30.0, Events.ON_EXCEPTION: DEAD_LETTER})
    async def handle(messages: list[Message[int]]) -> None:
        if messages[0].body == 1:
            await asyncio.sleep(1e9)

    with InMemorySystem(app) as system:
        sent = system.deliver("q", [1, 2])
        system.advance(29.9)
        assert [one.actions for one in sent] == [[], [ACK]]
        system.advance(1.0)
        assert [one.actions for one in sent] == [[DEAD_LETTER], [ACK]]
        assert "TIMEOUT, 30 s" in sent[0].reason
        (handler,) = [a for a in system.status()["actors"] if a["role"] == "handler"]
        assert handler["restarts"] == 1


def test_async_handlers_have_several_bulks_in_flight() -> None:
    app = app_on("spool", prefetch=4)
    at_once: list[int] = []
    working = 0

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        nonlocal working
        working += 1
        at_once.append(working)
        await asyncio.sleep(1.0)
        working -= 1

    with InMemorySystem(app) as system:
        system.deliver("q", range(8))
        system.advance(2.0)
        assert max(at_once) == 4
        assert len(at_once) == 8


def test_def_handlers_have_one() -> None:
    app = app_on("spool")

    @app.route(["q"])
    def handle(messages: list[Message[int]]) -> None:
        pass

    (pipeline,) = build_plan(app).pipelines
    assert pipeline.routes[0].in_flight == 1


# ── crashes ────────────────────────────────────────────────────────────────────


@both_kinds
@pytest.mark.parametrize("guilty", [{5}, {0, 63}, {7, 8, 9}])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_crash_is_bisected_and_only_the_guilty_die(
    kind: str, guilty: set[int], concurrency: int
) -> None:
    """Promise 8, also for the bulks beside it in the same process."""
    app = app_on(kind)
    alone: list[int] = []

    @app.route(["q"], options={
        Options.BULK_SIZE: 16, Options.CONCURRENCY: concurrency, Options.IN_FLIGHT: 2,
        Options.MAX_CRASHES: 3,
    })  # fmt: skip
    async def handle(messages: list[Message[int]]) -> None:
        ill = [message.body for message in messages if message.body in guilty]
        if ill and len(messages) == 1:
            alone.append(ill[0])
        await asyncio.sleep(0.1)
        if ill:
            crash()

    with InMemorySystem(app) as system:
        sent = system.deliver("q", range(64))
        system.advance(120.0)
        assert {int(one.body) for one in sent if one.dead} == guilty
        assert all(one.actions[-1] == ACK for one in sent if not one.dead)
        assert sorted(alone) == sorted([*guilty] * 3)
        assert all("alone in a process that died, 3 times" in d.reason for d in system.dead("q"))
        assert system.status()["state"] == "running"  # charged to the bulks


def test_suspects_run_in_a_process_with_nothing_else_in_it() -> None:
    app = app_on("spool")
    working: set[int] = set()
    beside: list[int] = []

    @app.route(["q"], options={Options.BULK_SIZE: 4, Options.IN_FLIGHT: 4})
    async def handle(messages: list[Message[int]]) -> None:
        suspects = any(message.redelivered for message in messages)
        if suspects and working:
            beside.append(messages[0].body)
        working.add(messages[0].body)
        await asyncio.sleep(1.0)
        working.remove(messages[0].body)

    with InMemorySystem(app) as system:
        system.kill("handler", when=lambda message: message.body == 13)
        sent = system.deliver("q", range(40))
        system.advance(60.0)
        assert beside == []
        assert all(one.actions == [ACK] for one in sent)


# ── order ──────────────────────────────────────────────────────────────────────


@both_kinds
@pytest.mark.parametrize("on_exception", [REQUEUE, Retry(attempts=0, first=2.0)])
@pytest.mark.parametrize("ill", ["raises", "crashes", "hangs", "snoozes"])
def test_messages_of_one_key_wait_behind_one_that_failed(
    kind: str, on_exception: Actions | Retry, ill: str
) -> None:
    app = app_on(kind)
    done: dict[str, list[int]] = {"a": [], "b": []}
    failures = 0

    @app.route(["q"], options={
        Options.ORDER_BY: "header:key", Options.CONCURRENCY: 3, Options.TIMEOUT: 5.0,
        Options.BULK_SIZE: 1 if ill == "snoozes" else 2,
        Options.BULK_FLUSH_INTERVAL: 0.5, Events.ON_EXCEPTION: on_exception,
    })  # fmt: skip
    async def handle(messages: list[Message[int]]) -> None:
        nonlocal failures
        handled = []
        for message in messages:
            handled.append(message)
            if message.body == 2 and message.headers["key"] == "a" and failures < 2:
                failures += 1
                if ill == "snoozes":
                    handled.remove(message)
                    message.snooze(3.0)
                    continue
                if ill == "crashes":
                    crash()
                if ill == "hangs":
                    await asyncio.sleep(1e9)
                raise RuntimeError("not yet")
        for message in handled:
            done[message.headers["key"]].append(message.body)

    with InMemorySystem(app, raise_errors=False) as system:
        sent = []
        for number in range(6):
            sent += system.deliver("q", [number], headers={"key": "a"})
            sent += system.deliver("q", [number], headers={"key": "b"})
        system.advance(120.0)
        assert all(one.actions[-1] == ACK for one in sent)
        assert list(dict.fromkeys(done["b"])) == [0, 1, 2, 3, 4, 5]
        last = {number: at for at, number in enumerate(done["a"])}
        assert sorted(last, key=lambda number: last[number]) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("raises", "sizes"), [(False, [8, 8]), (True, [8, 2, 2, 2, 2, 7])])
def test_an_exception_makes_bulks_smaller_and_a_mark_does_not(
    raises: bool, sizes: list[int]
) -> None:
    app = app_on("amqp")
    seen: list[int] = []

    @app.route(["q"], options={Options.BULK_SIZE: 8, Events.ON_EXCEPTION: REQUEUE})
    async def handle(messages: list[Message[int]]) -> None:
        seen.append(len(messages))
        if len(seen) == 1:
            messages[0].reject()
            if raises:
                raise RuntimeError("once")

    with InMemorySystem(app, raise_errors=False) as system:
        system.deliver("q", list(range(15)))
    assert seen == sizes


def errors_of(system: InMemorySystem) -> dict[str, str | None]:
    return {route["name"]: route["last_error"] for route in system.status()["routes"]}


@both_kinds
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("bulk", [1, 4])
@pytest.mark.parametrize("outcome", [REQUEUE, DEAD_LETTER, ACK, Retry(attempts=5)])
def test_each_route_shows_its_own_last_error(
    kind: str, pooled: bool, ordered: bool, bulk: int, outcome: Any
) -> None:
    """Routes that fail differently, side by side: what they raise is not mixed up."""
    app = app_on(kind)
    options: dict[Any, Any] = {Options.BULK_SIZE: bulk, Events.ON_EXCEPTION: outcome}
    options |= {Options.POOL: "one"} if pooled else {}
    options |= {Options.ORDER_BY: "routing_key"} if ordered else {}

    def failing_route(name: str) -> None:
        @app.route([name], options=options)
        def handle(messages: list[Message[int]]) -> None:
            if name != "well":
                raise ValueError(f"{name} failed")

    names = ["a", "well", "b"]
    for name in names:
        failing_route(name)
    with InMemorySystem(app, raise_errors=False) as system:
        for name in names:
            system.deliver(name, range(4))
        system.advance(2.0)
        errors = errors_of(system)
        assert errors["well"] is None
        assert {name: errors[name] for name in ("a", "b")} == {
            name: f"ValueError: {name} failed" for name in ("a", "b")
        }


@both_kinds
@pytest.mark.parametrize("ordered", [False, True])
def test_what_befell_a_message_outside_its_handler_is_the_last_error_too(
    kind: str, ordered: bool
) -> None:
    app = app_on(kind)
    order = {Options.ORDER_BY: "routing_key"} if ordered else {}

    @app.route(["late"], options={Options.TIMEOUT: 5.0, **order})
    async def late(messages: list[Message[int]]) -> None:
        await asyncio.sleep(1e9)

    @app.route(["deadly"], options={Options.MAX_CRASHES: 2, **order})
    def deadly(messages: list[Message[int]]) -> None:
        crash()

    with InMemorySystem(app) as system:
        system.deliver("late", [1])
        system.deliver("deadly", [1])
        system.advance(120.0)
        errors = errors_of(system)
        assert str(errors["late"]).startswith("TimeoutError: the bulk took longer than TIMEOUT")
        assert str(errors["deadly"]).startswith("actors.errors.HandlerCrashed: alone in a process")


@both_kinds
def test_a_retry_of_an_ordered_route_waits_in_the_worker(kind: str) -> None:
    """As docs/retries.md says: unsettled, in its place, within the prefetch."""
    app = app_on(kind, prefetch=4)
    seen: list[Any] = []
    retry = Retry(first=10.0, jitter=False)

    @app.route(["q"], options={Options.ORDER_BY: "header:key", Events.ON_EXCEPTION: retry})
    async def handle(messages: list[Message[Any]]) -> None:
        seen.extend((message.body, message.attempts) for message in messages)
        if seen[-1] == ("a1", 0):
            raise ValueError("not yet")

    with InMemorySystem(app, raise_errors=False) as system:
        ordered = system.deliver("q", ["a1", "a2", "a3", "a4", "a5"], headers={"key": "a"})
        other = system.deliver("q", ["b1"], headers={"key": "b"})
        system.advance(9.0)
        (route,) = system.status()["routes"]
        assert (route["retried"], route["in_flight"]) == (0, 4)
        assert seen == [("a1", 0)]
        assert other[0].actions == []  # the prefetch is spent
        system.advance(2.0)
        of_a = [body for body, _ in seen if body != "b1"]
        assert of_a == ["a1", "a1", "a2", "a3", "a4", "a5"]
        assert seen[1] == ("a1", 1)
        assert [one.actions[-1] for one in [*ordered, *other]] == [ACK] * 6
