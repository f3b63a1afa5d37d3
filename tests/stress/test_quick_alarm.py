"""A broker that is low on memory stops publishers, and only them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from actors import Publisher
from actors.errors import PublishError
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Worker, numbers, put, until, until_is


@pytest.fixture
def alarm(own_rabbitmq: BrokerPlace) -> Iterator[None]:
    """To be asked for after what is published before it."""
    own_rabbitmq.broker.ctl("set_vm_memory_high_watermark", "0")
    yield
    own_rabbitmq.broker.ctl("set_vm_memory_high_watermark", "0.4")


def settled(worker: Worker) -> tuple[int, int]:
    """How many are acknowledged, and how many are not settled."""
    totals = worker.status().get("totals", {})
    return totals.get("acked", 0), totals.get("in_flight", 0)


@pytest.fixture
def published(own_rabbitmq: BrokerPlace) -> None:
    for n in range(5):
        put(own_rabbitmq, "work", {"n": n, "do": "dead letter"})
    put(own_rabbitmq, "work", *numbers(range(5, 205)))


def test_while_dead_letters_cannot_be_stored_their_originals_are_kept(
    own_rabbitmq: BrokerPlace, published: None, alarm: None, run: Run
) -> None:
    """Acknowledgements go on; what waits for its copy stays unsettled, and outlives a kill."""
    worker = run("plain", "--connection", own_rabbitmq.url)
    until_is(205, lambda: len(worker.times()))
    until_is((200, 5), lambda: settled(worker))
    assert worker.status()["ready"]
    until(lambda: "blocked" in worker.output or "low on memory" in worker.output, 20.0)
    assert settled(worker) == (200, 5)  # tried in vain, and not given up
    os.kill(worker.launcher.pid, signal.SIGKILL)
    worker.wait()
    until_is(5, lambda: own_rabbitmq.ready("work"), 10.0)


def test_after_the_alarm_the_dead_letters_are_stored(
    own_rabbitmq: BrokerPlace, published: None, run: Run
) -> None:
    broker = own_rabbitmq.broker
    broker.ctl("set_vm_memory_high_watermark", "0")
    try:
        worker = run("plain", "--connection", own_rabbitmq.url)
        until_is((200, 5), lambda: settled(worker))
    finally:
        broker.ctl("set_vm_memory_high_watermark", "0.4")
    # A copy that was not confirmed within 10 s is made again after a backoff of up to 30 s.
    until_is((200, 0), lambda: settled(worker), 45.0)
    worker.launcher.terminate()
    assert worker.wait() == 0
    assert len(own_rabbitmq.dead("work")) == 5
    assert own_rabbitmq.ready("work") == 0


def test_a_publisher_fails_in_time_and_says_why(own_rabbitmq: BrokerPlace, alarm: None) -> None:
    with Publisher(own_rabbitmq.url) as publisher, pytest.raises(PublishError, match="low on"):
        publisher.put("work", {"n": 1}, timeout=2.0)
