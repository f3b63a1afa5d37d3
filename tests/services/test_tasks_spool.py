"""Tasks on the embedded spool, by whole workers and callers that are killed, hung and canceled."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from actors import (
    App,
    SpoolConnection,
    Status,
    TaskExpired,
    TaskFailed,
    TaskStopped,
    TaskTimeout,
)
from tests.services import tasks_app
from tests.services.conftest import Run
from tests.services.worker import REPOSITORY, SpoolPlace, Worker, until, until_is

APP = "tests.services.tasks_app:app"


@pytest.fixture
def app(spool: SpoolPlace) -> Iterator[App]:
    """The tasks, for callers of this spool."""
    caller = tasks_app.app
    caller.places = (("spool", "spool", SpoolConnection(str(spool.path)).as_json("", {})),)
    yield caller
    caller.close()
    caller.places = ()


def work(run: Run, spool: SpoolPlace, *flags: str, app: str = APP, **env: str) -> Worker:
    worker = run(app, "--connection", spool.url, *flags, **env)
    worker.ready()
    return worker


def callboard(spool: SpoolPlace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "actors", *arguments, "--connection", spool.url],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_line_calls_sends_and_looks_after_jobs(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    work(run, spool)
    done = callboard(spool, "call", "add", '{"a": 2, "b": 3}')
    assert (done.returncode, done.stdout) == (0, "5\n")
    bad = callboard(spool, "call", "add", '{"a": "x", "b": 3}')
    assert (bad.returncode, bad.stdout) == (1, "")
    assert "argument a: Input should be a valid integer" in bad.stderr
    assert bad.stderr.count("\n") == 1
    failed = callboard(spool, "call", "div", "[1, 0]")
    assert (failed.returncode, failed.stderr) == (
        1, "callboard: ZeroDivisionError: float division by zero\n",
    )  # fmt: skip
    (row,) = [
        json.loads(line)
        for line in callboard(
            spool, "jobs", "list", "--status", "failed", "--task", "div", "--json"
        ).stdout.splitlines()
    ]
    shown = callboard(spool, "jobs", "show", row["id"]).stdout
    assert "return a / b" in shown
    assert callboard(spool, "call", "nobody", "--wait", "0.5").returncode == 75
    sent = callboard(spool, "send", "add", "[1, 2]", "--delay", "600", "--id", "later")
    assert (sent.returncode, sent.stdout) == (0, "later\n")
    assert callboard(spool, "jobs", "cancel", "later").stdout == "later canceled\n"
    assert callboard(spool, "jobs", "retry", "later").stdout == "later queued\n"
    assert callboard(spool, "jobs", "wait", "later").stdout == "3\n"
    assert callboard(spool, "jobs", "show", "unknown").returncode == 1
    counted = json.loads(callboard(spool, "jobs", "count", "--json").stdout)
    assert counted["failed"] == 3
    assert callboard(spool, "jobs", "purge", "--yes").returncode == 0
    assert callboard(spool, "jobs", "list").stdout == "no such jobs\n"


def test_a_paused_queue_stays_paused_over_a_restart(run: Run, spool: SpoolPlace, app: App) -> None:
    assert callboard(spool, "pause", "add").returncode == 0
    worker = work(run, spool)
    job = tasks_app.add.send_sync(1, 2)
    assert tasks_app.div.call_sync(4, 2) == 2.0
    assert job.status_sync() is Status.QUEUED
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    work(run, spool)
    assert tasks_app.div.call_sync(4, 2) == 2.0
    assert job.status_sync() is Status.QUEUED
    assert callboard(spool, "resume", "add").returncode == 0
    assert job.result_sync(10) == 3


@pytest.mark.parametrize("name", ["spin", "deaf", "native", "clings"])
def test_a_hung_job_ends_in_time_and_its_neighbours_finish_once(
    run: Run, spool: SpoolPlace, app: App, name: str
) -> None:
    work(run, spool)
    before = {tasks_app.pid.call_sync() for _ in range(20)}
    hung = app.tasks[name].send_sync()
    if name != "native":  # nothing of its process can tell that it has begun
        until_is(Status.STARTED, hung.status_sync, 5.0)
    others = app.jobs.send_many_sync(tasks_app.add.job(n, 1) for n in range(50))
    begun = time.monotonic()
    with pytest.raises(TaskFailed) as failed:
        hung.result_sync(20)
    assert failed.value.type == "TimeoutError"
    info = hung.info_sync()
    assert info.ended is not None
    assert info.ended - info.created <= 1 + 1 + 1
    assert time.monotonic() - begun < 10
    assert [job.result_sync(20) for job in others] == [n + 1 for n in range(50)]
    assert all(job.info_sync().attempts == 1 for job in others)
    after = {tasks_app.pid.call_sync() for _ in range(40)}
    killed = 0 if name == "spin" else 1
    assert len(before - after) <= killed or len(before) < 2


def test_killed_handlers_and_a_killed_worker_leave_one_outcome_each(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    worker = work(run, spool)
    sent = app.jobs.send_many_sync(tasks_app.naps.job(0.02, str(n)) for n in range(150))
    handler = int(tasks_app.pid.call_sync())
    os.kill(handler, signal.SIGKILL)
    until(lambda: app.jobs.count_sync("naps")[Status.FINISHED] >= 20)
    worker.signal(signal.SIGKILL, to_all=True)
    finished = app.jobs.count_sync("naps")[Status.FINISHED]
    assert finished < 150
    work(run, spool)
    assert [job.result_sync(60) for job in sent] == [str(n) for n in range(150)]
    again = [job for job in sent if job.info_sync().attempts > 1]
    assert len(again) <= 20, "only what was in hand ran twice"


def test_a_task_that_kills_its_process_has_failed_and_its_caller_hears_of_it(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    work(run, spool)
    others = app.jobs.send_many_sync(tasks_app.add.job(n, 1) for n in range(100))
    with pytest.raises(TaskFailed, match="HandlerCrashed"):
        tasks_app.crashes.options(wait=60).call_sync()
    assert [job.result_sync(30) for job in others] == [n + 1 for n in range(100)]


def test_what_may_run_once_is_lost_with_its_worker_and_never_runs_again(
    run: Run, spool: SpoolPlace, app: App, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    worker = work(run, spool)
    job = tasks_app.once.send_sync(str(runs))
    until(runs.exists)
    worker.signal(signal.SIGKILL, to_all=True)
    work(run, spool)
    until_is(Status.FAILED, job.status_sync, 20.0)
    assert job.info_sync().error == "Lost"
    assert tasks_app.add.call_sync(1, 1) == 2
    assert runs.read_text() == "x"


def test_cancel_says_what_became_of_it_in_every_state(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    work(run, spool)
    scheduled = tasks_app.add.options(delay=60).send_sync(1, 2)
    assert scheduled.cancel_sync() is Status.CANCELED
    running = tasks_app.sleeps.send_sync(3)
    until_is(Status.STARTED, running.status_sync)
    queued = tasks_app.sleeps.send_sync(0)
    began = time.monotonic()
    assert queued.cancel_sync() is Status.CANCELED
    assert time.monotonic() - began < 1.5
    assert running.cancel_sync() is Status.STARTED
    assert running.result_sync(10) == "awake"
    assert running.cancel_sync() is Status.FINISHED
    stopped = tasks_app.sleeps.send_sync(60)
    until_is(Status.STARTED, stopped.status_sync)
    began = time.monotonic()
    assert stopped.cancel_sync(stop=True) is Status.STOPPED
    assert time.monotonic() - began < 1.5
    with pytest.raises(TaskStopped):
        stopped.result_sync()
    assert tasks_app.sleeps.call_sync(0) == "awake"


def test_a_function_that_runs_is_stopped(run: Run, spool: SpoolPlace, app: App) -> None:
    work(run, spool)
    job = tasks_app.spin.options(timeout=60).send_sync()
    until_is(Status.STARTED, job.status_sync)
    assert job.cancel_sync(stop=True) is Status.STOPPED
    assert tasks_app.add.call_sync(1, 2) == 3


def test_stop_meets_finish_in_exactly_one_of_both(run: Run, spool: SpoolPlace, app: App) -> None:
    work(run, spool)
    found: Counter[Status] = Counter()
    for number in range(40):
        job = tasks_app.sleeps.send_sync(0.06)
        time.sleep(0.04 + number % 10 * 0.01)
        job.cancel_sync(stop=True)
        until(lambda job=job: job.info_sync().ended)  # type: ignore[misc]
        status = job.status_sync()
        found[status] += 1
        assert len(job.info_sync().runs) <= 1
    assert set(found) <= {Status.FINISHED, Status.STOPPED, Status.CANCELED}
    assert found.total() == 40


def test_fifty_processes_that_send_one_key_put_one_job(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    code = (
        "import sys; from tests.services.tasks_app import index;"
        "sys.stdin.readline(); print(index.send_sync('bob', 1.0).id)"
    )
    environment = {**os.environ, "CALLBOARD_CONNECTION": spool.url}
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(12)
    ]  # fmt: skip
    with ThreadPoolExecutor(50) as threads:
        mine = [threads.submit(tasks_app.index.send_sync, "bob", 1.0) for _ in range(38)]
        out = [caller.communicate("\n", timeout=60)[0] for caller in callers]
        ids = {text.strip() for text in out} | {one.result().id for one in mine}
    assert len(ids) == 1
    work(run, spool)
    job = app.jobs.handle(ids.pop())
    assert job.result_sync(20) == "bob"
    failing = tasks_app.index.send_sync("bob", 0.0, fail=True)
    assert failing.id != job.id
    assert failing.cancel_sync() in Status
    assert tasks_app.index.send_sync("bob").id != failing.id


def test_progress_ends_with_the_last_word_and_writes_seldom(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    work(run, spool)
    seen: list[tuple[Status, float]] = []

    async def follow() -> None:
        job = await tasks_app.walks.send(100, 3.0)
        async for info in job.events():
            seen.append((info.status, info.progress))

    import asyncio

    asyncio.run(follow())
    assert seen[-1] == (Status.FINISHED, 1.0)
    told = {progress for _, progress in seen}
    assert 4 <= len(told) <= 20
    assert [progress for _, progress in seen] == sorted(progress for _, progress in seen)
    asyncio.run(app.aclose())


def test_a_retry_waits_as_its_delays_say_and_a_failed_job_is_run_again_by_hand(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    work(run, spool)
    job = tasks_app.flaky.send_sync()
    until_is(Status.FAILED, job.status_sync, 15.0)
    runs = job.info_sync().runs
    assert [run.attempt for run in runs] == [1, 2, 3]
    begun = [run.begun or 0.0 for run in runs]
    assert 0.9 <= begun[1] - begun[0] <= 2.0
    assert 1.9 <= begun[2] - begun[1] <= 3.0
    assert callboard(spool, "jobs", "retry", job.id).stdout == f"{job.id} queued\n"
    until(lambda: len(job.info_sync().runs) == 4)
    assert job.info_sync().runs[-1].attempt == 1


def test_a_thousand_delayed_jobs_are_never_early(run: Run, spool: SpoolPlace, app: App) -> None:
    work(run, spool)
    sent = app.jobs.send_many_sync(tasks_app.add.options(delay=2).job(n, 1) for n in range(1000))
    assert app.jobs.count_sync("add")[Status.SCHEDULED] == 1000
    until(lambda: app.jobs.count_sync("add")[Status.FINISHED] == 1000, 30.0)
    infos = [job.info_sync() for job in sent]
    assert all((info.begun or 0.0) >= info.created + 2 for info in infos)
    late = max((info.ended or 0.0) - info.created for info in infos)
    assert late <= 5.0


def test_a_higher_priority_goes_first(run: Run, spool: SpoolPlace, app: App) -> None:
    work(run, spool)
    low = app.jobs.send_many_sync(tasks_app.naps.job(0.05, f"low {n}") for n in range(30))
    until(lambda: low[0].info_sync().ended)
    high = app.jobs.send_many_sync(
        tasks_app.naps.options(priority=9).job(0.05, f"high {n}") for n in range(5)
    )
    assert [job.result_sync(30) for job in high]
    done = sum(job.info_sync().ended is not None for job in low)
    assert done <= 12, "the high ones were not behind the low ones"
    assert [job.result_sync(30) for job in low]


def test_no_job_waits_behind_a_long_one(
    run: Run, spool: SpoolPlace, app: App, tmp_path: Path
) -> None:
    work(run, spool)
    second = Worker(tmp_path / "second", APP, "--connection", spool.url)
    try:
        second.ready()
        long = tasks_app.naps.send_sync(6.0, "long")
        until_is(Status.STARTED, long.status_sync)
        began = time.monotonic()
        short = app.jobs.send_many_sync(tasks_app.naps.job(0.1, str(n)) for n in range(40))
        assert [job.result_sync(30) for job in short]
        took = time.monotonic() - began
        assert took <= 5.5, f"40 × 0.1 s beside a long one took {took:.1f} s"
        assert long.result_sync(30) == "long"
    finally:
        second.destroy()


def test_calls_end_with_an_answer_whoever_is_away(run: Run, spool: SpoolPlace, app: App) -> None:
    with pytest.raises(TaskExpired):
        tasks_app.add.options(wait=0.5).call_sync(1, 2)
    worker = work(run, spool)
    with pytest.raises(TaskTimeout):
        tasks_app.sleeps.options(wait=0.5).call_sync(2)
    results: list[Any] = []

    def call() -> None:
        try:
            results.append(tasks_app.naps.options(wait=25).call_sync(1.0, "done"))
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: app.jobs.count_sync("naps")[Status.STARTED] == 1)
    worker.signal(signal.SIGKILL, to_all=True)
    work(run, spool)
    thread.join(30)
    assert results == ["done"]


def test_a_thousand_calls_at_once_are_answered(run: Run, spool: SpoolPlace, app: App) -> None:
    import asyncio

    work(run, spool)

    async def calls() -> list[int]:
        try:
            return await asyncio.gather(*(tasks_app.add.call(n, 1) for n in range(1000)))
        finally:
            await app.aclose()

    assert asyncio.run(calls()) == [n + 1 for n in range(1000)]


def test_a_cancelled_caller_withdraws_what_nobody_has_begun(spool: SpoolPlace, app: App) -> None:
    import asyncio

    async def give_up() -> None:
        call = asyncio.ensure_future(tasks_app.add.call(1, 2))
        while not app.jobs.count_sync("add"):
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        for _ in range(200):
            if app.jobs.count_sync("add")[Status.CANCELED]:
                return
            await asyncio.sleep(0.02)
        pytest.fail("the job was not withdrawn")

    asyncio.run(give_up())


def test_the_job_of_a_caller_that_was_killed_expires_or_ends_and_nothing_stays(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    code = (
        "from tests.services.tasks_app import add, sleeps; import threading\n"
        "for task, arguments in [(add, (1, 2))] * 5 + [(sleeps, (0.2,))] * 5:\n"
        "    call = task.options(wait=3).call_sync\n"
        "    threading.Thread(target=call, args=arguments).start()\n"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "CALLBOARD_CONNECTION": spool.url},
        stderr=subprocess.DEVNULL,
    )
    until(lambda: app.jobs.count_sync().total() == 10)
    caller.kill()
    caller.wait()
    until_is(5, lambda: app.jobs.count_sync("add")[Status.FAILED], 8.0)
    assert {info.error for info in app.jobs.list_sync(task="add")} == {"TaskExpired"}
    worker = work(run, spool)
    assert tasks_app.add.call_sync(1, 2) == 3
    until(lambda: {info.status for info in app.jobs.list_sync()} <= {"finished", "failed"})
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_secret_arguments_are_shown_to_nobody(run: Run, spool: SpoolPlace, app: App) -> None:
    worker = work(run, spool)
    job = tasks_app.secretive.options(id="s").send_sync("bob", password="canary-4711")
    until(lambda: job.info_sync().error or job.info_sync().runs)
    shown = callboard(spool, "jobs", "show", "s")
    assert '"password": "***"' in shown.stdout
    assert "canary" not in shown.stdout + shown.stderr + worker.output


def test_a_spool_of_the_version_before_is_taken_over_in_place(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    old = Path(__file__).parents[1] / "support" / "spool-1.sql"
    connection = sqlite3.connect(spool.path)
    connection.executescript(old.read_text())
    connection.close()
    spool.path.chmod(0o600)
    assert [letter.error for letter in spool.dead("work")] == ["ValueError"]
    work(run, spool)
    assert tasks_app.add.call_sync(1, 2) == 3
    with sqlite3.connect(spool.path) as at:
        assert at.execute("PRAGMA user_version").fetchone() == (2,)
    at.close()
    assert [letter.error for letter in spool.dead("work")] == ["ValueError"]


def test_a_newer_spool_is_refused_by_name(spool: SpoolPlace) -> None:
    callboard(spool, "send", "add", "[1, 2]")
    with sqlite3.connect(spool.path) as at:
        at.execute("PRAGMA user_version = 3")
    at.close()
    refused = callboard(spool, "send", "add", "[1, 2]")
    assert refused.returncode == 78
    assert "is a spool of version 3; this program knows versions up to 2" in refused.stderr


def test_outcomes_are_looked_for_when_the_worker_comes_back(
    run: Run, spool: SpoolPlace, app: App
) -> None:
    job = tasks_app.add.send_sync(20, 22)
    assert job.status_sync() is Status.QUEUED
    work(run, spool)
    assert job.result_sync(20) == 42
