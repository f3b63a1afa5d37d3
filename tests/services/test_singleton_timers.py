"""Timers over several replicas, and callbacks for connections that fail, in real systems."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import App
from actors.connectors.rabbitmq import lock as queuelock
from actors.connectors.rabbitmq.lock import QueueLock
from actors.connectors.spool.lock import FileLock
from actors.testing import InMemorySystem
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Place, Worker, until
from tests.support.broker import Broker, free_port

APP = "tests.services.singleton_app"


@pytest.fixture
def replicas(place: Place, tmp_path: Path) -> Iterator[list[Worker]]:
    """Two workers with one record between them."""
    ticks = {"TICKS": str(tmp_path / "record")}
    workers = [
        Worker(tmp_path / name, f"{APP}:app", "--connection", f"main={place.url}", **ticks)
        for name in ("one", "two")
    ]
    yield workers
    for worker in workers:
        worker.destroy()


def lines(directory: Path) -> list[dict[str, Any]]:
    record = directory / "record"
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def test_one_replica_ticks_and_another_takes_over_when_it_dies(
    replicas: list[Worker], tmp_path: Path
) -> None:
    for worker in replicas:
        worker.ready()
    until(lambda: len(lines(tmp_path)) > 10)
    (first,) = {line["n"] for line in lines(tmp_path)}
    clocks = [worker.pids("clock")[0] for worker in replicas]
    assert first in clocks
    holder, other = sorted(replicas, key=lambda worker: worker.pids("clock")[0] != first)
    killed = time.monotonic()
    for pid in holder.living():
        os.kill(pid, signal.SIGKILL)
    successor = other.pids("clock")[0]
    until(lambda: lines(tmp_path)[-1]["n"] == successor)
    assert time.monotonic() - killed < 8.0
    order = [line["n"] for line in lines(tmp_path)]
    assert order == sorted(order, key=lambda pid: pid != first), "never both"


def test_a_file_lock_has_one_holder_and_goes_with_it(tmp_path: Path) -> None:
    mine = FileLock(tmp_path / "spool.db", "timer")
    assert mine.held()
    child = os.fork()
    if not child:
        os._exit(FileLock(tmp_path / "spool.db", "timer").held())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    mine.close()
    child = os.fork()
    if not child:
        os._exit(FileLock(tmp_path / "spool.db", "timer").held())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_queue_lock_is_given_up_with_its_broker_and_taken_again(
    own_broker: Broker, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queuelock, "RETRY_S", 0.1)
    one, two = (QueueLock(own_broker.settings(vhost), "timer") for _ in range(2))
    until(lambda: None not in (one.held(), two.held()))
    assert {one.held(), two.held()} == {True, False}
    own_broker.kill()
    until(lambda: not one.held() and not two.held())
    own_broker.start()
    until(lambda: one.held() or two.held())
    holder, other = (one, two) if one.held() else (two, one)
    holder.close()
    until(other.held)
    other.close()


def test_a_callback_hears_of_each_failed_attempt_and_counts_each_outage_anew() -> None:
    """B36"""
    told: list[tuple[str, int]] = []

    async def failed(error: Exception, retries: int) -> None:
        told.append((type(error).__name__, retries))

    app = App(host="h", user="u", password="p", connection_fail_callback=failed)
    app.route(["q"])(print)
    with InMemorySystem(app) as system:
        system.advance(1.0)
        assert told == []
        for _ in (1, 2):
            system.world.reachable = False
            system.disconnect()
            system.advance(20.0)
            system.world.reachable = True
            system.advance(60.0)
        retries = [count for _, count in told]
        again = retries.index(1, 1)
        assert again >= 2
        assert retries == [*range(1, again + 1), *range(1, len(retries) - again + 1)]
        assert {kind for kind, _ in told} == {"UnreachableError"}


def test_a_callback_runs_in_the_process_of_the_clock(
    own_broker: Broker, rabbitmq: BrokerPlace, run: Run, tmp_path: Path
) -> None:
    worker = run(f"{APP}:calling", "--connection", f"main={rabbitmq.url}")
    (clock,) = worker.pids("clock")
    own_broker.kill()
    try:
        until(lambda: len(lines(tmp_path)) >= 2)
    finally:
        own_broker.start()
    told = lines(tmp_path)
    assert [line["retries"] for line in told[:2]] == [1, 2]
    assert {(line["error"], line["pid"]) for line in told} == {("UnreachableError", clock)}
    assert str(own_broker.port) in told[0]["text"]


def test_a_broker_that_was_never_there_is_told_of_from_the_first_attempt(
    run: Run, tmp_path: Path
) -> None:
    run(f"{APP}:calling", "--connection", f"main=amqp://guest:secret@127.0.0.1:{free_port()}/")
    until(lambda: len(lines(tmp_path)) >= 2)
    told = lines(tmp_path)
    assert [line["retries"] for line in told[:2]] == [1, 2]
    assert "secret" not in told[0]["text"]
