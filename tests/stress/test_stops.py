"""Processes that stand still, signals that mean nothing, and a worker after the other."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from pathlib import Path

import pytest

from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Place, Worker, numbers, put, until, until_is
from tests.stress.checker import total_queue
from tests.stress.rig import account, stop

APPS = "tests.stress.apps"
COUNT = 2000


def test_a_connection_that_was_stopped_settles_nothing_of_its_old_channel(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    """With a heartbeat of 4 s the broker gives all back within 8 s; then the process goes on."""
    put(rabbitmq, "work", *numbers(range(COUNT)))
    worker = run("plain", "--connection", f"{rabbitmq.url}?heartbeat=4", PACE="0.05")
    until(lambda: worker.handled() and worker.status().get("ready"))
    (pid,) = worker.pids("connection")
    os.kill(pid, signal.SIGSTOP)
    before = rabbitmq.ready("work")
    until(lambda: rabbitmq.ready("work") > before, 2 * 4 + 15.0, "the broker gave all back")
    os.kill(pid, signal.SIGCONT)
    total = account(worker, rabbitmq, COUNT, 35.0)
    assert total.duplicated > 0  # what was handled and could not be acknowledged


def test_a_handler_that_holds_the_interpreter_is_killed_at_its_deadline(
    place: Place, run: Run
) -> None:
    """A sleep in C with the GIL held: nothing in that process can end it, not even a signal."""
    worker = run(f"{APPS}:limited", "--connection", place.url)
    worker.ready()
    put(place, "work", {"n": 0, "seconds": 600}, {"n": 1})
    until(lambda: worker.times()[0] == 1)
    assert worker.status()["state"] in ("running", "starting")  # all others answer
    until(lambda: worker.times()[0] == 2, 1.0 + 5.0, "killed within 5 s after the deadline")
    until_is(1, lambda: len(place.dead("work")), 30.0)
    until_is(1, lambda: worker.times()[1])
    worker.ready()
    stop(worker)
    assert worker.times()[0] == 3
    assert place.dead("work")[0].error == "TimeoutError"


@pytest.mark.parametrize("role", ["handler", "batcher", "pipeline", "root"])
def test_any_actor_may_stand_still_for_a_while(rabbitmq: BrokerPlace, run: Run, role: str) -> None:
    """Paused by a debugger, a hypervisor, a machine that swaps: it goes on where it was."""
    put(rabbitmq, "work", *numbers(range(COUNT)))
    worker = run("plain", "--connection", rabbitmq.url, PACE="0.02")
    until(lambda: worker.handled() and worker.status().get("ready"))
    (pid,) = worker.pids(role)
    os.kill(pid, signal.SIGSTOP)
    resume = threading.Timer(6.0, os.kill, (pid, signal.SIGCONT))
    resume.start()
    resume.join()
    account(worker, rabbitmq, COUNT, 35.0)


STORM = (signal.SIGPIPE, signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT)


def test_signals_that_ask_for_nothing_change_nothing(place: Place, run: Run) -> None:
    put(place, "work", *numbers(range(COUNT)))
    worker = run("plain", "--connection", place.url, PACE="0.02")
    until(lambda: worker.handled() and worker.status().get("ready"))
    pids = worker.living()
    signals = itertools.cycle(STORM)
    while len(worker.times()) < COUNT:
        for pid in pids:
            os.kill(pid, next(signals))
    assert worker.living() == pids
    total = account(worker, place, COUNT)
    assert total.duplicated == 0


def test_actors_outlive_a_terminal_that_hangs_up(place: Place, run: Run) -> None:
    put(place, "work", *numbers(range(COUNT)))
    worker = run("plain", "--connection", place.url, PACE="0.02")
    until(lambda: worker.handled() and worker.status().get("ready"))
    pids = worker.living()
    for pid in set(pids) - {worker.launcher.pid}:
        os.kill(pid, signal.SIGHUP)
    total = account(worker, place, COUNT)
    assert total.duplicated == 0
    assert "died: " not in worker.output


def test_two_workers_on_one_queue_are_replaced_one_by_one_under_load(
    place: Place, tmp_path: Path
) -> None:
    """Each drains while the other goes on: nothing is lost, and nothing even handled twice."""
    stopped = threading.Event()
    sent = itertools.count()
    count = 0

    def load() -> None:
        nonlocal count
        while not stopped.is_set():
            put(place, "work", *numbers(itertools.islice(sent, 20)))
            count += 20

    def start(number: int) -> Worker:
        worker = Worker(tmp_path / str(number), "plain", "--connection", place.url, PACE="0.01")
        workers.append(worker)
        worker.ready()
        return worker

    workers: list[Worker] = []
    publisher = threading.Thread(target=load)
    publisher.start()
    try:
        pair = [start(0), start(1)]
        for number in range(2, 6):
            before = count
            until(lambda before=before: count > before + 200, 30.0, "under load")  # type: ignore[misc]
            stop(pair.pop(0))
            pair.append(start(number))
        stopped.set()
        publisher.join()
        until(lambda: sum(sum(worker.times().values()) for worker in workers) >= count, 60.0)
        for worker in pair:
            stop(worker)
    finally:
        stopped.set()
        publisher.join()
        for worker in workers:
            worker.destroy()
    assert place.ready("work") == 0
    record = [line for worker in workers for line in worker.handled()]
    total = total_queue(range(count), range(count), record)
    assert (total.lost, total.unexpected, total.duplicated) == (0, 0, 0), total
