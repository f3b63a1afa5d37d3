"""Fifty routes that share one handler process, for real."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from actors import Publisher
from tests.services.conftest import Run
from tests.services.pool_app import QUEUES
from tests.services.worker import BrokerPlace, Place, Worker, numbers, put, until, until_is

APP = "tests.services.pool_app:app"
EACH = 20  #: messages for each route
LIMIT = 200.0  #: MiB of memory (PSS), of all processes together


@pytest.fixture
def wide(place: Place) -> Iterator[Place]:
    """The place with fifty queues, and the same messages in each."""
    if isinstance(place, BrokerPlace):
        with place.admin() as admin:
            for queue in QUEUES:
                admin.declare(queue)
    with Publisher(place.url) as publisher:
        for queue in QUEUES:
            bodies = [json.dumps(body).encode() for body in numbers(range(EACH))]
            publisher.put_many(queue, bodies)
    yield place
    if isinstance(place, BrokerPlace):
        with place.admin() as admin:
            for queue in (*QUEUES, f"{QUEUES[7]}.dead"):
                admin.channel.queue_delete(queue)


def routes(worker: Worker) -> Counter[str]:
    """How many messages each route has handled."""
    return Counter(line["route"] for line in worker.handled())


def memory(worker: Worker) -> float:
    """MiB of memory (PSS) of all its processes."""
    total = 0
    for pid in worker.living():
        with open(f"/proc/{pid}/smaps_rollup") as lines:
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def test_fifty_routes_take_one_process_and_all_of_them_work(wide: Place, run: Run) -> None:
    worker = run(APP, "--connection", wide.url)
    until_is(dict.fromkeys(QUEUES, EACH), lambda: dict(routes(worker)))
    assert len(worker.pids("handler")) == 1
    assert (
        len(worker.living()) <= 7
    )  # launcher, admin, root, pipeline, connection, batcher, handler
    assert {line["pid"] for line in worker.handled()} == set(worker.pids("handler"))
    assert memory(worker) < LIMIT
    worker.launcher.terminate()
    assert worker.wait() == 0


def test_a_message_that_kills_the_process_is_found_and_no_other_route_loses_any(
    wide: Place, run: Run
) -> None:
    put(wide, QUEUES[7], {"n": -1, "do": "crash"})
    worker = run(APP, "--connection", wide.url)
    until(lambda: wide.dead(QUEUES[7]), 30.0)
    until(lambda: set(routes(worker)) == set(QUEUES) and min(routes(worker).values()) >= EACH)
    until_is(1, lambda: worker.totals().get("dead"))
    worker.launcher.terminate()
    assert worker.wait() == 0
