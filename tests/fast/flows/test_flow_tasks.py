"""Jobs through the whole pipeline, in virtual time: outcomes, retries, limits, cancel and stop."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest

from actors import (
    AMQPConnection,
    App,
    JobContext,
    Retry,
    Status,
    TaskActor,
    TaskCanceled,
    TaskExpired,
    TaskFailed,
    TaskStopped,
    TaskTimeout,
    Unique,
    current_job,
)
from actors.testing import InMemorySystem, crash


class NotFound(Exception):
    """What a caller is told."""


def test_a_call_returns_the_result() -> None:
    app = App()

    @app.task("add")
    def add(a: int, b: int = 1) -> int:
        return a + b

    with InMemorySystem(app) as system:
        assert system.call(add, 2, b=3) == 5
        assert system.call(add, 2) == 3


def test_a_coroutine_takes_virtual_time() -> None:
    app = App()

    @app.task("nap")
    async def nap(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "awake"

    with InMemorySystem(app) as system:
        assert system.call(nap, 10) == "awake"
        with pytest.raises(TaskTimeout):
            system.call(nap.options(wait=5), 10)


def test_a_failure_reaches_the_caller_at_once_and_is_kept_as_a_failed_job() -> None:
    app = App()

    @app.task("div")
    def div(a: float, b: float) -> float:
        return a / b

    with InMemorySystem(app) as system:
        with pytest.raises(TaskFailed, match="division by zero") as raised:
            system.call(div, 1, 0)
        assert raised.value.type == "ZeroDivisionError"
        assert "return a / b" in raised.value.traceback
        (job,) = app.jobs.list_sync(status="failed")
        assert (job.id, job.error, job.attempts) == (raised.value.job, "ZeroDivisionError", 1)


def test_an_exception_that_the_task_lists_is_raised_as_itself() -> None:
    app = App()

    @app.task("find", raises=[NotFound])
    def find(name: str) -> str:
        raise NotFound(name)

    with InMemorySystem(app) as system, pytest.raises(NotFound, match="Bob"):
        system.call(find, "Bob")


def test_what_is_sent_is_retried_by_the_delays_that_the_task_names() -> None:
    app = App()
    runs: list[float] = []

    @app.task("flaky", retry=Retry(attempts=3, delays=[1, 2], jitter=False))
    def flaky() -> None:
        runs.append(system.stage.now)
        raise ConnectionError("away")

    with InMemorySystem(app) as system:
        start = system.stage.now
        job = system.send(flaky)
        assert job.status_sync() is Status.SCHEDULED
        system.advance(10)
        assert [round(at - start, 1) for at in runs] == [0.0, 1.0, 3.0]
        assert job.status_sync() is Status.FAILED
        assert [run.error for run in job.info_sync().runs] == ["ConnectionError"] * 3
        assert job.retry_sync()
        system.run_until_idle()
        assert len(runs) == 4
        assert job.info_sync().attempts == 1


def test_meta_and_progress_survive_a_retry() -> None:
    app = App()
    seen: list[dict[str, Any]] = []

    @app.task("remove", retry=Retry(attempts=2, delays=[1]))
    def remove(ctx: JobContext, paths: list[str]) -> int:
        seen.append(copy.deepcopy(ctx.meta))
        done = ctx.meta.setdefault("done", [])
        done.append(paths[len(done)])
        ctx.progress(len(done) / len(paths), f"{len(done)} of {len(paths)}")
        if len(done) < len(paths):
            ctx.retry(reason="not all")
        return len(done)

    with InMemorySystem(app) as system:
        job = system.send(remove, ["a", "b"])
        assert (job.info_sync().progress, job.info_sync().note) == (0.5, "1 of 2")
        system.advance(2)
        assert job.result_sync() == 2
        assert seen == [{}, {"done": ["a"]}]
        assert job.info_sync().meta == {"done": ["a", "b"]}


def test_a_snooze_counts_no_attempt() -> None:
    app = App()
    attempts: list[int] = []

    @app.task("later", retry=Retry(attempts=2, delays=[1]))
    def later() -> str:
        attempts.append(current_job().attempt)
        if len(attempts) < 4:
            current_job().snooze(90)
        return "now"

    with InMemorySystem(app) as system:
        job = system.send(later)
        assert job.status_sync() is Status.SCHEDULED
        system.advance(minutes=5)
        assert job.result_sync() == "now"
        assert set(attempts) <= {1, 2}
        assert len(attempts) == 4


def test_fail_ends_a_job_whatever_its_retries() -> None:
    app = App()

    @app.task("no", retry=Retry())
    def no(ctx: JobContext) -> None:
        ctx.fail("never will")

    with InMemorySystem(app) as system:
        job = system.send(no)
        assert job.status_sync() is Status.FAILED
        with pytest.raises(TaskFailed, match="never will"):
            job.result_sync()


def test_a_job_whose_time_is_over_has_failed_and_its_neighbours_go_on() -> None:
    app = App()

    @app.task("wait", timeout=3, grace=1, in_flight=10)
    async def wait(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    with InMemorySystem(app) as system:
        late = system.send(wait, 100)
        fine = system.send(wait, 2)
        system.advance(4)
        assert fine.result_sync() == "done"
        with pytest.raises(TaskFailed, match="longer than 3 s"):
            late.result_sync()
        assert late.info_sync().error == "TimeoutError"
        assert late.info_sync().attempts == 1


def test_a_job_that_clings_to_life_costs_its_process() -> None:
    app = App()

    @app.task("deaf", timeout=3, grace=1)
    async def deaf() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        await asyncio.sleep(100)

    @app.task("add")
    def add(a: int, b: int) -> int:
        return a + b

    with InMemorySystem(app, raise_errors=False) as system:
        job = system.send(deaf)
        system.advance(10)
        assert job.status_sync() is Status.FAILED
        assert system.call(add, 1, 2) == 3


def test_a_late_job_is_retried_where_its_table_says_so_killed_or_not() -> None:
    app = App()
    table: dict[type[BaseException], Retry] = {
        TimeoutError: Retry(attempts=2, delays=[1], jitter=False)
    }

    @app.task("late", timeout=3, grace=1, on_exception=table)
    async def late(clings: bool) -> None:
        with contextlib.suppress(*([asyncio.CancelledError] if clings else [])):
            await asyncio.sleep(100)
        await asyncio.sleep(100)

    with InMemorySystem(app, raise_errors=False) as system:
        jobs = [system.send(late, clings) for clings in (False, True)]
        system.advance(minutes=1)
        assert [job.status_sync() for job in jobs] == [Status.FAILED] * 2
        assert [job.info_sync().attempts for job in jobs] == [2, 2]
        assert {job.info_sync().error for job in jobs} == {"TimeoutError"}


def test_a_delayed_job_is_scheduled_and_never_early() -> None:
    app = App()

    @app.task("mail")
    def mail() -> str:
        return "sent"

    with InMemorySystem(app) as system:
        job = system.send(mail.options(delay=60))
        system.advance(59.9)
        assert job.status_sync() is Status.SCHEDULED
        with pytest.raises(TaskTimeout, match="is scheduled, and has not ended within 0 s"):
            job.result_sync()
        system.advance(0.2)
        assert job.result_sync() == "sent"


def test_what_nobody_begins_expires() -> None:
    app = App()

    @app.task("slow", concurrency=1, in_flight=1)
    async def slow() -> None:
        await asyncio.sleep(50)

    with InMemorySystem(app) as system:
        first = system.send(slow)
        second = system.send(slow.options(expires=5))
        system.advance(10)
        assert first.status_sync() is Status.STARTED
        with pytest.raises(TaskExpired):
            second.result_sync()
        with pytest.raises(TaskExpired):
            system.call(slow.options(wait=3))
        system.advance(60)


def test_a_job_that_waits_knows_how_many_go_before_it() -> None:
    app = App()
    slow = blocked(app)
    with InMemorySystem(app) as system:
        running = system.send(slow)
        first, second = system.send(slow), system.send(slow)
        urgent = system.send(slow.options(priority=9))
        jobs = (running, urgent, first, second)
        assert [job.info_sync().ahead for job in jobs] == [None, 0, 1, 2]
        system.advance(300)
        assert [job.info_sync().ahead for job in jobs] == [None] * 4


def test_what_waits_behind_a_job_that_takes_long_goes_back_to_its_queue() -> None:
    app = App()

    @app.task("work", concurrency=1, in_flight=1)
    async def work(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    with InMemorySystem(app) as system:
        app.jobs.send_many_sync(work.job(0) for _ in range(300))
        system.advance(5)  # they take no time: many are fetched at once
        sent = app.jobs.send_many_sync(work.job(seconds) for seconds in (60, *[0] * 50))
        system.advance(1)
        held = [job for job in system.world.jobs.list(system.stage.now, limit=1000) if job.in_hand]
        assert sent[0].status_sync() is Status.STARTED
        assert len(held) <= 1 + 10, "but for what its process has already"
        assert all(job.attempt <= 1 for job in held)
        system.advance(120)
        assert [job.result_sync() for job in sent] == [60, *[0] * 50]


def blocked(app: App) -> Any:
    """A task whose jobs run one at a time, for 50 s each."""

    @app.task("slow", concurrency=1, in_flight=1)
    async def slow() -> str:
        await asyncio.sleep(50)
        return "done"

    return slow


def test_a_job_that_waits_is_canceled_and_never_begins() -> None:
    app = App()
    slow = blocked(app)
    with InMemorySystem(app) as system:
        scheduled = system.send(slow.options(delay=10))
        assert system.cancel(scheduled) is Status.CANCELED
        running, queued = system.send(slow), system.send(slow)
        assert system.cancel(queued) is Status.CANCELED
        system.advance(60)
        assert running.result_sync() == "done"
        with pytest.raises(TaskCanceled):
            queued.result_sync()
        assert queued.info_sync().attempts == 0
        assert system.cancel(running) is Status.FINISHED


def test_a_job_that_runs_is_stopped_only_where_one_asks_for_that() -> None:
    app = App()
    slow = blocked(app)
    with InMemorySystem(app) as system:
        job = system.send(slow)
        system.advance(1)
        assert system.cancel(job) is Status.STARTED
        assert system.cancel(job, stop=True) is Status.STOPPED
        with pytest.raises(TaskStopped):
            job.result_sync()
        system.advance(100)
        assert job.status_sync() is Status.STOPPED


def test_a_stopped_job_is_not_retried() -> None:
    app = App()

    @app.task("slow", retry=Retry(attempts=5, delays=[1]))
    async def slow() -> None:
        await asyncio.sleep(50)

    with InMemorySystem(app) as system:
        job = system.send(slow)
        system.advance(1)
        system.cancel(job, stop=True)
        system.advance(100)
        assert job.status_sync() is Status.STOPPED
        assert job.info_sync().attempts == 1


def test_a_unique_job_is_put_once_until_it_has_ended() -> None:
    app = App()

    @app.task("index", unique=Unique("{user}"))
    async def index(user: str, full: bool = False) -> str:
        await asyncio.sleep(5)
        return user

    with InMemorySystem(app) as system:
        first = system.send(index, "bob")
        again = system.send(index, "bob", full=True)
        other = system.send(index, "eve")
        assert again.id == first.id != other.id
        system.advance(6)
        assert system.send(index, "bob").id != first.id
        system.advance(6)


def test_the_same_id_is_the_same_job() -> None:
    app = App()
    runs: list[int] = []

    @app.task("pay")
    def pay(amount: int) -> int:
        runs.append(amount)
        return amount

    with InMemorySystem(app) as system:
        first = system.send(pay.options(id="order-1"), 5)
        second = system.send(pay.options(id="order-1"), 7)
        assert first.id == second.id == "order-1"
        assert second.result_sync() == 5
        assert runs == [5]


def test_a_paused_queue_hands_out_nothing() -> None:
    app = App()

    @app.task("mail")
    def mail() -> str:
        return "sent"

    with InMemorySystem(app) as system:
        system.world.jobs.pause("mail", system.stage.now + 30)
        job = system.send(mail)
        system.advance(29)
        assert job.status_sync() is Status.QUEUED
        system.advance(2)
        assert job.result_sync() == "sent"


def test_a_task_actor_has_one_instance_a_process() -> None:
    app = App()

    @app.task("stat", concurrency=1)
    class Stat(TaskActor):
        def on_start(self) -> None:
            self.served = 0

        def run(self, ctx: JobContext, step: int = 1) -> int:
            self.served += step
            return self.served

    with InMemorySystem(app) as system:
        assert [system.call(Stat), system.call(Stat, 2), system.call(Stat)] == [1, 3, 4]


def test_callers_of_a_bulk_task_get_their_own() -> None:
    app = App()
    bulks: list[list[str]] = []

    @app.bulk_task("embed", bulk=3, flush=1.0)
    async def embed(texts: list[str]) -> list[int | Exception]:
        bulks.append(texts)
        return [len(text) if text else ValueError("empty") for text in texts]

    with InMemorySystem(app) as system:
        jobs = app.jobs.send_many_sync(embed.job(text) for text in ("a", "bb", "", "dddd"))
        system.advance(2)
        assert sorted(map(len, bulks)) == [1, 1, 3]  # the empty one a second time
        assert [job.status_sync() for job in jobs] == [
            Status.FINISHED, Status.FINISHED, Status.SCHEDULED, Status.FINISHED,
        ]  # fmt: skip
        assert [jobs[n].result_sync() for n in (0, 1, 3)] == [1, 2, 4]
        assert jobs[2].info_sync().error == "ValueError"


def test_a_bulk_task_that_returns_another_number_fails_them_all_by_name() -> None:
    app = App()

    @app.bulk_task("embed", bulk=2)
    def embed(texts: list[str]) -> list[int]:
        return [1]

    with InMemorySystem(app) as system:
        jobs = app.jobs.send_many_sync(embed.job(text) for text in "ab")
        system.advance(1)
        for job in jobs:
            with pytest.raises(TaskFailed, match="bulk task embed got 2 and returned 1"):
                job.result_sync()


def test_a_task_calls_another_within_its_own_time() -> None:
    app = App()

    @app.task("inner")
    async def inner(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "inner"

    @app.task("outer", timeout=10)
    async def outer(seconds: float) -> str:
        try:
            return await inner.call(seconds)
        except TaskTimeout:
            return "late"

    with InMemorySystem(app) as system:
        assert system.call(outer, 2) == "inner"
        assert system.call(outer, 60) == "late"
        system.advance(100)


def test_gathered_calls_keep_their_order_and_their_failures() -> None:
    app = App()

    @app.task("half")
    async def half(n: int) -> int:
        if n % 2:
            raise NotFound(n)
        return n // 2

    @app.task("sum")
    async def total(n: int) -> list[int | str]:
        calls = [half.job(number) for number in range(n)]
        results = await app.gather(*calls, return_exceptions=True)
        return [r if isinstance(r, int) else type(r).__name__ for r in results]

    with InMemorySystem(app) as system:
        assert system.call(total, 4) == [0, "TaskFailed", 1, "TaskFailed"]


def test_a_killed_handler_runs_its_job_again_and_a_killer_has_failed_in_the_end() -> None:
    app = App()
    deaths: list[str] = []

    @app.task("work")
    async def work(name: str) -> str:
        if name == "bad":
            deaths.append(name)
            crash()
        await asyncio.sleep(5)
        return name

    with InMemorySystem(app) as system:
        good = system.send(work, "good")
        system.advance(1)
        system.kill("handler")
        bad = system.send(work, "bad")
        system.advance(minutes=5)
        assert good.result_sync() == "good"
        assert bad.info_sync().error.endswith("HandlerCrashed")
        assert len(deaths) <= 4


def test_a_job_that_may_run_once_never_runs_again() -> None:
    app = App()
    runs: list[str] = []

    @app.task("train", at_most_once=True)
    async def train(model: str) -> str:
        runs.append(model)
        await asyncio.sleep(5)
        return model

    with InMemorySystem(app) as system:
        job = system.send(train, "m")
        system.advance(1)
        system.kill("handler")
        system.advance(minutes=1)
        assert job.status_sync() is Status.FAILED
        assert runs == ["m"]


@pytest.mark.parametrize("role", ["batcher", "connection", "handler", "supervisor"])
def test_every_job_has_one_outcome_whoever_dies(role: str) -> None:
    app = App()

    @app.task("work", in_flight=4)
    async def work(n: int) -> int:
        await asyncio.sleep(1)
        return n

    with InMemorySystem(app) as system:
        jobs = app.jobs.send_many_sync(work.job(n) for n in range(40))
        system.advance(1.5)
        system.kill(role)
        system.advance(minutes=5)
        assert [job.result_sync() for job in jobs] == list(range(40))


@pytest.mark.parametrize(
    ("result", "reason"),
    [(lambda: object(), "no JSON"), (lambda: "x" * 2_000_000, "more than max_result, 1,048,576")],
)
def test_a_result_that_cannot_be_stored_is_a_failure_and_not_retried(
    result: Callable[[], object], reason: str
) -> None:
    app = App()
    runs: list[int] = []

    @app.task("make", retry=Retry())
    def make() -> Any:
        runs.append(1)
        return result()

    with InMemorySystem(app) as system:
        job = system.send(make)
        with pytest.raises(TaskFailed, match=reason):
            job.result_sync()
        assert runs == [1]


def test_arguments_that_another_program_sent_are_checked_again() -> None:
    app = App()
    runs: list[int] = []

    @app.task("add")
    def add(a: int, b: int) -> int:
        runs.append(1)
        return a + b

    with InMemorySystem(app) as system:
        system.deliver("add", [{"b": 1}, {"a": "x", "b": 1}, [1, 2], b"\xff"])
        reasons = {letter.body[:4]: letter.reason for letter in system.dead("add")}
        assert runs == [1]
        assert "argument a: Input should be a valid integer" in reasons[b'{"a"']
        assert "not JSON" in reasons[b"\xff"]
        assert len(system.dead("add")) == 3


def test_a_task_that_these_workers_do_not_know_waits_for_others_and_then_fails() -> None:
    app = App()

    @app.task("one", queue="shared")
    def one() -> None: ...

    @app.task("two", queue="shared")
    def two() -> None: ...

    with InMemorySystem(app) as system:
        app.jobs.named("three", {}, one._options, queue="shared")
        prepared = app.jobs.named("three", {}, one._options, queue="shared")
        (id,) = app.jobs.client().run_sync(lambda store: store.put([prepared.new]))
        system.run_until_idle()
        job = app.jobs.handle(id)
        assert job.status_sync() is Status.SCHEDULED
        system.advance(hours=2)
        assert job.status_sync() is Status.FAILED
        assert job.info_sync().error.endswith("UnknownTask")


def test_calls_over_a_broker_bring_results_and_failures_in_the_kit() -> None:
    app = App(connections=[AMQPConnection(host="nowhere")])

    @app.task("halve")
    async def halve(number: int) -> float:
        if number % 2:
            raise ValueError(number)
        return number / 2

    @app.task("slow")
    async def slow() -> str:
        await asyncio.sleep(10)
        return "done"

    with InMemorySystem(app) as system:
        assert system.call(halve, 8) == 4
        with pytest.raises(TaskFailed, match="ValueError: 3"):
            system.call(halve, 3)
        assert system.call(slow) == "done"
