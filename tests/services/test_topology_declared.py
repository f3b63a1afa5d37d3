"""Topology on a real broker: declared before consuming, and never changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from actors import Binding, Exchange, Queue
from actors.connectors.rabbitmq.connection import RabbitMQClient
from actors.errors import Fault
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import Consuming, Fetched, Lost, Opened, QueueLost, Stopped
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace
from tests.support.broker import Admin, Broker
from tests.support.driver import Driver


def plan(broker: Broker, vhost: str, queue: Queue, **changes: Any) -> PipelinePlan:
    topology = ((queue.name, json.dumps(queue.declarations())),)
    return PipelinePlan("rabbitmq", "amqp", broker.settings(vhost, **changes), topology=topology)


def consumed(plan: PipelinePlan, queue: str = "orders") -> Consuming | QueueLost:
    """What comes of consuming."""
    with Driver(RabbitMQClient(plan)) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume(queue, 1, 10)
        while True:
            for event in driver.turn(10.0):
                if isinstance(event, Consuming | QueueLost):
                    return event


def test_everything_that_is_missing_is_declared_before_consuming(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    queue = Queue(
        "orders",
        quorum=True,
        delivery_limit=5,
        dead_letter_exchange=Exchange("graveyard", "fanout"),
        bindings=[Binding(Exchange("events", "topic"), "order.*")],
    )
    assert isinstance(consumed(plan(broker, vhost, queue)), Consuming)
    admin.channel.basic_publish("events", "order.new", b"1", mandatory=True)
    admin.declare(
        "orders",
        **{
            "x-queue-type": "quorum", "x-delivery-limit": 5, "x-dead-letter-exchange": "graveyard",
        },
    )  # fmt: skip
    admin.channel.exchange_declare("graveyard", "fanout", passive=True)
    assert admin.ready("orders") == 1
    assert isinstance(consumed(plan(broker, vhost, queue)), Consuming), "and once more"


def test_a_queue_unlike_its_declaration_is_an_error_that_shows_both(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    admin.declare("orders", **{"x-max-length": 10})
    lost = consumed(plan(broker, vhost, Queue("orders", arguments={"x-max-length": 20})))
    assert isinstance(lost, QueueLost)
    assert lost.fault == Fault.REFUSED
    assert "queue 'orders' cannot be declared: 406" in lost.cause
    assert "'x-max-length'" in lost.cause
    assert "'20'" in lost.cause
    assert "'10'" in lost.cause
    admin.declare("orders", **{"x-max-length": 10})


def test_an_exchange_unlike_its_declaration_is_an_error_that_shows_both(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    admin.channel.exchange_declare("events", "fanout", durable=True)
    queue = Queue("orders", bindings=[Binding(Exchange("events", "topic"))])
    lost = consumed(plan(broker, vhost, queue))
    assert isinstance(lost, QueueLost)
    assert "exchange 'events' cannot be declared: 406" in lost.cause
    assert "'topic'" in lost.cause
    assert "'fanout'" in lost.cause


def test_a_binding_to_an_exchange_that_is_missing_is_an_error(broker: Broker, vhost: str) -> None:
    lost = consumed(plan(broker, vhost, Queue("orders", bindings=[Binding("nowhere")])))
    assert isinstance(lost, QueueLost)
    assert lost.fault == Fault.MISSING
    assert "binding of 'orders' to 'nowhere' cannot be declared: 404" in lost.cause


@pytest.fixture
def reader(own_broker: Broker, vhost: str) -> Iterator[str]:
    """A user who may consume, and neither declare nor publish."""
    with own_broker.limited_user(vhost, "^$", "^$", ".*") as name:
        yield name


def test_without_the_permission_to_declare_what_is_there_is_used(
    broker: Broker, vhost: str, admin: Admin, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    as_reader = {"user": reader, "password": "secret"}
    lost = consumed(plan(broker, vhost, Queue("orders"), **as_reader))
    assert isinstance(lost, QueueLost)
    assert lost.fault == Fault.MISSING
    admin.declare("orders")
    found = consumed(plan(broker, vhost, Queue("orders", quorum=True), **as_reader))
    assert isinstance(found, Consuming)
    assert "queue 'orders' is there, but whether it is as declared cannot be told" in caplog.text


def test_intake_resumes_in_the_same_epoch_and_positions_go_on(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    admin.declare("q")
    with Driver(RabbitMQClient(PipelinePlan("r", "amqp", broker.settings(vhost)))) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q", 1, 10)
        driver.until(Consuming)
        admin.publish("q", b"1", b"2")
        seen = 0
        while seen < 2:
            seen += len(driver.until(Fetched).ends) // 4
        driver.client.cancel("q", 1)
        driver.until(Stopped)
        admin.publish("q", b"3")
        driver.client.resume("q", 1)
        driver.until(Consuming, epoch=1)
        assert driver.until(Fetched).first == 3
        driver.client.settle("q", 1, Flush(3, ((1, 3),)))
        driver.client.shut()
        assert driver.until(Lost).cause == ""
    assert admin.ready("q") == 0


def test_a_worker_on_a_queue_unlike_its_declaration_does_not_start(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    rabbitmq.declare("typed")
    worker = run("tests.services.topology_app:app", "--connection", rabbitmq.url)
    assert worker.wait() == 78
    assert "inequivalent arg 'x-queue-type' for queue 'typed'" in worker.output
    assert "Traceback" not in worker.output
