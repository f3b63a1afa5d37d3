"""Queues that give messages to one consumer alone, on each RabbitMQ."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, put, until, until_is

APPS = "tests.services.single_app"
PREFETCH = 32

KINDS = [
    ("own", {"x-single-active-consumer": True}),
    ("others", {"x-single-active-consumer": True}),
    ("others", {"x-single-active-consumer": True, "x-queue-type": "quorum"}),
    ("others", {"x-single-active-consumer": True, "x-max-length": 999, "x-max-priority": 3}),
]


@pytest.mark.parametrize(("app", "arguments"), KINDS, ids=str)
def test_it_is_consumed_with_its_whole_prefetch_and_requeues_do_not_stop_it(
    each_rabbitmq: BrokerPlace, run: Run, tmp_path: Path, app: str, arguments: dict[str, Any]
) -> None:
    place, gate = each_rabbitmq, tmp_path / "record.gate"
    if app == "others":
        place.declare("work", **arguments)
    gate.touch()
    flags = ("--connection", place.url, "--prefetch", str(PREFETCH))
    worker = run(f"{APPS}:{app}", *flags)
    worker.ready()
    waiting = PREFETCH // 2  # as much as is held in the connection
    put(place, "work", *({"n": n, "do": "wait" if n < waiting else "ack"} for n in range(64)))
    until_is(64 - PREFETCH, lambda: place.ready("work"))
    gate.unlink()
    until(lambda: set(worker.times()) == set(range(64)), why="all were handed out")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert place.ready("work") == waiting


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_with_many_consumers_still_begins_with_what_its_handlers_need(
    each_rabbitmq: BrokerPlace, run: Run, tmp_path: Path, kind: str
) -> None:
    place, gate = each_rabbitmq, tmp_path / "record.gate"
    place.declare("work", **{"x-queue-type": kind})
    gate.touch()
    flags = ("--connection", place.url, "--prefetch", str(PREFETCH))
    worker = run(f"{APPS}:others", *flags)
    worker.ready()
    put(place, "work", *({"n": n} for n in range(64)))
    until(lambda: worker.times(), why="the first was handed out")
    assert place.ready("work") > 64 - PREFETCH
    gate.unlink()
    until(lambda: set(worker.times()) == set(range(64)), why="all were handed out")
