"""Processes killed for real, brokers too: nothing is lost, and the system recovers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Place, Worker, numbers, put, until, until_is

COUNT = 1500
PACE = "0.03"  #: seconds for each bulk of 64: the load lasts about a second


def under_load(place: Place, run: Run, app: str = "plain") -> Worker:
    """A worker in the middle of its work."""
    put(place, "work", *numbers(range(COUNT)))
    worker = run(app, "--connection", place.url, PACE=PACE)
    until(lambda: worker.handled() and worker.status().get("ready"))
    return worker


def finishes(worker: Worker, place: Place, count: int = COUNT, seconds: float = 30.0) -> None:
    """Everything is handled, what is handled is settled, and a drain finds nothing left."""
    until_is(set(), lambda: set(range(count)) - set(worker.times()), seconds)
    until(lambda: worker.ready() and not worker.totals().get("in_flight"), seconds)
    worker.launcher.terminate()
    assert worker.wait() == 0
    assert place.ready("work") == 0
    assert place.dead("work") == []


@pytest.mark.parametrize("role", ["handler", "batcher", "connection", "pipeline"])
def test_a_killed_process_loses_nothing(place: Place, run: Run, role: str) -> None:
    worker = under_load(place, run)
    (pid,) = worker.pids(role)
    os.kill(pid, signal.SIGKILL)
    finishes(worker, place, seconds=15.0)


def test_a_unit_whose_children_are_all_killed_begins_anew(place: Place, run: Run) -> None:
    worker = under_load(place, run)
    for pid in [pid for role in ("connection", "batcher", "handler") for pid in worker.pids(role)]:
        with suppress(ProcessLookupError):  # its pipeline has seen the first of them die
            os.kill(pid, signal.SIGKILL)
    finishes(worker, place, seconds=15.0)


@pytest.mark.parametrize("role", ["root", "admin"])
def test_a_system_without_its_head_ends_and_loses_nothing(
    place: Place, run: Run, role: str
) -> None:
    worker = under_load(place, run)
    (pid,) = worker.pids(role)
    os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    assert worker.wait() == 1
    assert time.monotonic() - begin < 3.0
    assert "Traceback" not in worker.output
    again = run("plain", "--connection", place.url, "--burst")
    assert again.wait() == 0
    assert set(again.times()) == set(range(COUNT))
    assert place.ready("work") == 0


def test_while_one_handler_stands_still_the_others_go_on(place: Place, run: Run) -> None:
    worker = run("pair", "--connection", place.url)
    stopped, other = worker.pids("handler")
    os.kill(stopped, signal.SIGSTOP)
    put(place, "work", *numbers(range(100)))
    # At most two messages wait at a handler, whatever becomes of it.
    until(lambda: sum(worker.times().values()) >= 98)
    assert {line["pid"] for line in worker.handled()} == {other}
    os.kill(stopped, signal.SIGCONT)
    finishes(worker, place, 100)
    assert all(times == 1 for times in worker.times().values())


def test_a_handler_that_leaks_memory_is_replaced_and_nothing_is_handled_twice(
    place: Place, run: Run
) -> None:
    put(place, "work", *numbers(range(600)))
    worker = run("leaky", "--connection", place.url, PACE="0.02")
    until(lambda: len(worker.times()) == 600, 40.0, "all handled")
    restarts = [actor["restarts"] for actor in worker.ready()["actors"] if actor["route"]]
    assert sum(restarts) >= 4
    finishes(worker, place, 600)
    assert set(worker.times().values()) == {1}
    assert worker.output.count("its successor starts") == sum(restarts)
    assert worker.output.count("MiB at its end") == sum(restarts) + 2
    assert " died: " not in worker.output


def _restart(place: BrokerPlace) -> None:
    place.broker.ctl("stop_app")
    place.broker.ctl("start_app")


def _kill(place: BrokerPlace) -> None:
    place.broker.kill()
    place.broker.start()


@pytest.mark.parametrize("end", [_restart, _kill])
def test_a_broker_that_goes_and_comes_back_loses_nothing(
    own_rabbitmq: BrokerPlace, run: Run, end: Callable[[BrokerPlace], None]
) -> None:
    worker = under_load(own_rabbitmq, run)
    end(own_rabbitmq)
    # The longest wait between two attempts is 30 s; after an outage of seconds, mostly 8 s.
    finishes(worker, own_rabbitmq, seconds=40.0)
    assert "lost: " in worker.output
    assert "Traceback" not in worker.output


def test_a_deleted_queue_is_seen_within_two_seconds_and_back_once_it_is_declared(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    worker = run("plain", "--connection", rabbitmq.url)
    worker.ready()
    rabbitmq.delete("work")
    until(lambda: not worker.status()["ready"], 2.0)
    rabbitmq.declare("work")
    put(rabbitmq, "work", *numbers(range(10)))
    finishes(worker, rabbitmq, 10)


def test_one_missing_queue_stops_no_other(rabbitmq: BrokerPlace, run: Run) -> None:
    for queue in ("more", "async", "class"):
        rabbitmq.declare(queue)
    worker = run("every", "--connection", rabbitmq.url)
    worker.ready()
    rabbitmq.delete("async")
    until(lambda: not worker.status()["ready"], 2.0)
    put(rabbitmq, "work", *numbers(range(10)))
    until_is(10, lambda: len(worker.times()))
    (connection,) = (a for a in worker.status()["actors"] if a["role"] == "connection")
    assert "async" in connection["reason"]
    worker.launcher.terminate()
    assert worker.wait() == 0
