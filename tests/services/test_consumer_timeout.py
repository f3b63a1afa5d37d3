"""RabbitMQ ends a channel on which a delivery is unsettled for longer than `consumer_timeout`."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.services.apps import TIRED
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, numbers, put, until
from tests.support.broker import Broker

TIMEOUT_MS = 4000


@pytest.fixture
def impatient(own_rabbitmq: BrokerPlace, broker: Broker) -> Iterator[BrokerPlace]:
    """A broker that waits four seconds for a settlement, and looks twice a second."""
    before = broker.evaluate(
        "{ok, Timeout} = application:get_env(rabbit, consumer_timeout), "
        "{ok, Interval} = application:get_env(rabbit, channel_tick_interval), "
        f"application:set_env(rabbit, consumer_timeout, {TIMEOUT_MS}), "
        "application:set_env(rabbit, channel_tick_interval, 500), "
        "[Timeout, Interval]."
    )
    timeout, interval = before.strip("[]").split(",")
    yield own_rabbitmq
    broker.evaluate(
        f"application:set_env(rabbit, consumer_timeout, {timeout}), "
        f"application:set_env(rabbit, channel_tick_interval, {interval})."
    )


def test_a_slow_handler_holds_no_message_until_the_broker_loses_patience(
    impatient: BrokerPlace, run: Run
) -> None:
    """At the default prefetch, and far more work than the broker has patience for."""
    put(impatient, "work", *numbers(range(20)))
    worker = run("lone", "--connection", impatient.url, PACE="0.5")
    until(lambda: len(worker.times()) == 20, 40.0)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.times() == Counter(range(20))
    assert not any(handled["redelivered"] for handled in worker.handled())
    assert "timed out" not in worker.output


def test_a_handler_that_turns_slow_gives_back_what_it_has_not_begun(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    """It has shown that it takes no time, and holds more than the broker has patience for."""
    worker = run("tiring", "--connection", rabbitmq.url)
    worker.ready()
    put(rabbitmq, "more", *numbers(range(TIRED + 14)))
    until(lambda: len(worker.times()) == TIRED + 14, 60.0)
    until(lambda: worker.totals().get("in_flight", 0) == 0)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert worker.times() == Counter(range(TIRED + 14))
    assert all(handled["attempts"] <= 1 for handled in worker.handled())
    assert "queue more: a delivery of route more is unsettled for half of the 12 s" in worker.output
