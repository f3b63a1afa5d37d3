"""One load, and the faults that are met most: deaths, a broken link, a drain, a new start."""

from __future__ import annotations

import os
import signal

from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Place, Worker, numbers, put, until
from tests.stress.proxy import Proxy
from tests.stress.rig import account, stop

COUNT = 3000
PACE = "0.02"


def handled(worker: Worker, count: int) -> None:
    until(lambda: len(worker.times()) >= count, 35.0, f"{count} handled")


def kill(worker: Worker, role: str) -> None:
    os.kill(worker.pids(role)[0], signal.SIGKILL)


def test_deaths_and_a_drain_under_one_load_lose_nothing(place: Place, run: Run) -> None:
    put(place, "work", *numbers(range(COUNT)))
    worker = run("plain", "--connection", place.url, PACE=PACE)
    for number, role in enumerate(("handler", "batcher", "connection"), 1):
        handled(worker, number * COUNT // 6)
        kill(worker, role)
    handled(worker, 2 * COUNT // 3)
    stop(worker)
    again = run("plain", "--connection", place.url, PACE=PACE)
    account(again, place, COUNT)


def test_a_broken_link_and_a_death_under_one_load_lose_nothing(
    rabbitmq: BrokerPlace, run: Run, proxy: Proxy
) -> None:
    put(rabbitmq, "work", *numbers(range(COUNT)))
    worker = run("plain", "--connection", proxy.instead_of(rabbitmq.url), PACE=PACE)
    handled(worker, COUNT // 6)
    proxy.reset()
    handled(worker, COUNT // 3)
    kill(worker, "handler")
    proxy.reset()
    account(worker, rabbitmq, COUNT)
