"""What signals do to a whole run: it drains or stops in time, and no process outlives it."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Place, Worker, numbers, put, until

COUNT = 1500


def under_load(place: Place, run: Run, *flags: str) -> Worker:
    put(place, "work", *numbers(range(COUNT)))
    worker = run("plain", "--connection", place.url, *flags, PACE="0.1")
    until(lambda: worker.handled() and worker.status().get("ready"))
    return worker


def stuck(place: Place, run: Run, tmp_path: Path, *flags: str) -> Worker:
    """A worker whose handler does not come back."""
    (tmp_path / "record.gate").touch()
    put(place, "work", {"n": 0, "do": "wait"})
    worker = run("plain", "--connection", place.url, *flags)
    until(lambda: worker.handled() and worker.status().get("ready"))
    return worker


def rest_is_handled(place: Place, run: Run) -> Counter[int]:
    """Run what is left; how often each was handled in all."""
    again = run("plain", "--connection", place.url, "--burst")
    assert again.wait() == 0
    assert place.ready("work") == 0
    assert set(again.times()) == set(range(COUNT))
    return again.times()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_under_load_drains_and_nothing_is_handled_twice(
    place: Place, run: Run, number: int
) -> None:
    worker = under_load(place, run)
    worker.signal(number)
    assert worker.wait() == 0
    handled = worker.times()
    assert 0 < len(handled) < COUNT
    assert place.ready("work") == COUNT - len(handled)
    assert rest_is_handled(place, run) == Counter(range(COUNT))


def test_a_worker_that_is_told_to_outlive_its_terminal_does(spool: Place, run: Run) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        worker = run("plain", "--connection", spool.url)
    finally:
        signal.signal(signal.SIGHUP, before)
    worker.ready()
    worker.signal(signal.SIGHUP, to_all=True)
    put(spool, "work", *numbers(range(10)))
    until(lambda: len(worker.times()) == 10)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_signal_to_every_process_at_once_drains_the_same(place: Place, run: Run) -> None:
    worker = under_load(place, run)
    worker.signal(signal.SIGTERM, to_all=True)
    assert worker.wait() == 0
    assert place.ready("work") == COUNT - len(worker.times())
    assert rest_is_handled(place, run) == Counter(range(COUNT))


def test_a_second_signal_stops_at_once(place: Place, run: Run, tmp_path: Path) -> None:
    worker = stuck(place, run, tmp_path)
    worker.signal(signal.SIGTERM)
    until(lambda: worker.status().get("state") == "draining")
    begin = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 75
    assert time.monotonic() - begin < 2.0
    (tmp_path / "record.gate").unlink()
    assert run("plain", "--connection", place.url, "--burst").wait() == 0
    assert place.ready("work") == 0


def test_a_handler_that_is_stuck_is_left_at_the_deadline(
    place: Place, run: Run, tmp_path: Path
) -> None:
    worker = stuck(place, run, tmp_path, "--shutdown-timeout", "2")
    begin = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 75
    assert 1.0 < time.monotonic() - begin < 5.0
    assert "stopped with 1 deliveries unsettled" in worker.output
    (tmp_path / "record.gate").unlink()
    assert run("plain", "--connection", place.url, "--burst").wait() == 0
    first, again = worker.handled()
    assert (first["redelivered"], again["redelivered"]) == (False, True)


def test_a_broker_that_is_gone_during_the_drain_does_not_hold_it_up(
    own_rabbitmq: BrokerPlace, run: Run, tmp_path: Path
) -> None:
    worker = stuck(own_rabbitmq, run, tmp_path, "--shutdown-timeout", "4")
    worker.signal(signal.SIGTERM)
    until(lambda: worker.status().get("state") == "draining")
    begin = time.monotonic()
    own_rabbitmq.broker.kill()
    try:
        assert worker.wait() == 75
        assert time.monotonic() - begin < 7.0
    finally:
        own_rabbitmq.broker.start()


def test_a_worker_that_waits_for_its_broker_obeys_a_signal(run: Run) -> None:
    worker = run("plain", "--connection", "amqp://127.0.0.1:1/")
    until(lambda: "tried again in" in worker.output)
    begin = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert time.monotonic() - begin < 3.0
    assert "drains within 25 s; a second signal stops at once" in worker.output


def test_a_launcher_killed_leaves_no_process_and_all_comes_back(place: Place, run: Run) -> None:
    worker = under_load(place, run)
    os.kill(worker.launcher.pid, signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL  # which also sees that all are gone within 2 s
    rest_is_handled(place, run)
