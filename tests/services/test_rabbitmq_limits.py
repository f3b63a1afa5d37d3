"""What a broker says of queues that do not answer, and how it is met where it allows little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from actors.connectors.rabbitmq.connection import RabbitMQClient
from actors.connectors.rabbitmq.queues.measuring import Measuring
from actors.errors import Fault
from actors.logic.settlement.failure import REQUEUE
from actors.plan.plan import PipelinePlan, RoutePlan
from actors.roles.port import Consuming, Depth, Fetched, Lost, Opened
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, numbers, put, until, until_is
from tests.support.broker import Admin, Broker, RawProperties
from tests.support.driver import Driver


@pytest.fixture
def driver(broker: Broker, vhost: str) -> Iterator[Driver]:
    with Driver(RabbitMQClient(PipelinePlan("rabbitmq", "amqp", broker.settings(vhost)))) as driver:
        driver.client.open()
        driver.until(Opened)
        yield driver


# ── how much is ready ────────────────────────────────────────────────────────


@contextmanager
def silent(broker: Broker, vhost: str, queue: str) -> Iterator[None]:
    """The leader of a quorum queue does not answer."""
    leader = f"whereis('{vhost}_{queue}')" if vhost != "/" else f"whereis('%2F_{queue}')"
    assert broker.evaluate(f"sys:suspend({leader}).") == "ok"
    try:
        yield
    finally:
        broker.evaluate(f"sys:resume({leader}).")


def test_a_queue_whose_leader_is_silent_is_not_taken_for_empty(
    own_broker: Broker, vhost: str, driver: Driver, admin: Admin
) -> None:
    admin.declare("q", **{"x-queue-type": "quorum"})
    admin.declare("other")
    admin.publish("q", b"x")
    with silent(own_broker, vhost, "q"):
        assert admin.ready("q") == 0  # as the broker has it
        channels = len(driver.client._link._channels)
        for _ in range(20):  # a burst asks again and again
            driver.client.measure("q")
        driver.client.measure("other")
        assert driver.until(Depth).queue == "other"
        assert not [event for event in driver.idle(1.0) if isinstance(event, Depth)]
        assert len(driver.client._link._channels) <= channels + 1
    assert driver.until(Depth, 30.0).ready > 0
    driver.client.measure("q")
    assert driver.until(Depth).ready == 1


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("single", [False, True])
def test_an_empty_queue_of_every_kind_says_so(
    driver: Driver, admin: Admin, kind: str, single: bool
) -> None:
    """One with a single active consumer lets nobody else look."""
    more = {"x-single-active-consumer": True} if single else {}
    admin.declare("q", **{"x-queue-type": kind, **more})
    driver.client.measure("q")
    assert driver.until(Depth) == Depth("q", 0)
    admin.publish("q", b"x", b"y")
    until_is(2, lambda: admin.ready("q"))
    driver.client.measure("q")
    assert driver.until(Depth) == Depth("q", 2)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_message_that_comes_between_two_looks_goes_back_untouched(
    driver: Driver, admin: Admin, kind: str
) -> None:
    admin.declare("q", **{"x-queue-type": kind})
    for properties in (RawProperties.late(), RawProperties.deep()):
        admin.channel.basic_publish("", "q", b"body", properties)
        until_is(1, lambda: admin.ready("q"))
        told: list[int | None] = []
        measuring = Measuring(driver.client._link, "q", told.append)
        driver.client._link.briefly(measuring._get)
        driver.idle(0.5)
        assert told == [1]
        until_is(1, lambda: admin.ready("q"))
        admin.channel.queue_purge("q")
    driver.client.consume("q", 1, 10)
    driver.until(Consuming)


def test_a_burst_waits_for_a_silent_queue_and_then_does_its_work(
    own_rabbitmq: BrokerPlace, run: Run
) -> None:
    own_rabbitmq.delete("work")
    own_rabbitmq.declare("work", **{"x-queue-type": "quorum"})
    vhost = own_rabbitmq.url.rpartition("/")[2]
    with silent(own_rabbitmq.broker, vhost, "work"):
        worker = run("plain", "--connection", own_rabbitmq.url, "--burst")
        until(lambda: "open, RabbitMQ" in worker.output)
        with pytest.raises(AssertionError, match="still runs"):
            worker.wait(5.0)
    put(own_rabbitmq, "work", *numbers(range(5)))
    assert worker.wait() == 0
    assert len(worker.times()) == 5


def test_a_worker_whose_dead_letters_hang_says_so(own_rabbitmq: BrokerPlace, run: Run) -> None:
    """As while the node of their queue is down."""
    own_rabbitmq.declare("work.dead")
    broker, vhost = own_rabbitmq.broker, own_rabbitmq.url.rpartition("/")[2]
    name = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"work.dead">>)'
    found = f"{{ok, Q}} = rabbit_amqqueue:lookup({name})"
    worker = run("plain", "--connection", own_rabbitmq.url)
    worker.ready()
    assert broker.evaluate(f"{found}, sys:suspend(amqqueue:get_pid(Q)).") == "ok"
    try:
        put(own_rabbitmq, "work", {"n": 1, "do": "dead letter"})
        until(lambda: worker.status().get("ready") is False, 30.0, "not ready")
        reasons = [actor.get("reason") or "" for actor in worker.status()["actors"]]
        assert any(reason.startswith("dead letters of work: ") for reason in reasons), reasons
    finally:
        broker.evaluate(f"{found}, sys:resume(amqqueue:get_pid(Q)).")
    worker.ready(30.0)
    assert own_rabbitmq.dead("work")


# ── how many channels ────────────────────────────────────────────────────────

QUEUES = ("a", "b", "c")


@contextmanager
def channels(broker: Broker, most: int) -> Iterator[None]:
    broker.evaluate(f"application:set_env(rabbit, channel_max, {most}).")
    try:
        yield
    finally:
        broker.evaluate("application:set_env(rabbit, channel_max, 2047).")


@pytest.fixture
def several(own_broker: Broker, vhost: str, admin: Admin) -> Iterator[Driver]:
    """A client of three queues with retries; none of their waiting queues is there yet."""
    for queue in QUEUES:
        admin.declare(queue)
    routes = (RoutePlan("r", QUEUES, 1, 1.0, 1, first_retry=1.0, on_timeout=REQUEUE),)
    settings = own_broker.settings(vhost)
    with Driver(RabbitMQClient(PipelinePlan("rabbitmq", "amqp", settings, routes))) as driver:
        yield driver


def consume_all(driver: Driver, epoch: int) -> None:
    for number, queue in enumerate(QUEUES):
        driver.client.consume(queue, epoch + number, 10)
    for queue in QUEUES:
        driver.until(Consuming, queue=queue)


def test_one_channel_more_than_there_are_queues_is_enough(
    own_broker: Broker, several: Driver, admin: Admin
) -> None:
    """Declarations and questions share it, one after another."""
    with channels(own_broker, 4):
        several.client.open()
        several.until(Opened)
        consume_all(several, 1)
        for queue in QUEUES:
            several.client.measure(queue)
        assert [several.until(Depth, queue=queue).ready for queue in QUEUES] == [0, 0, 0]
        admin.publish("c", b"x")
        assert several.until(Fetched).queue == "c"


def test_more_queues_than_channels_are_refused_in_one_line(
    own_broker: Broker, several: Driver
) -> None:
    """Also where the limit has changed when the connection is made again."""
    several.client.open()
    several.until(Opened)
    consume_all(several, 1)
    with channels(own_broker, 3):
        own_broker.ctl("close_all_connections", "--global", "limits")
        assert several.until(Lost).fault == Fault.UNREACHABLE
        for _ in range(2):
            several.client.open()
            lost = several.until(Lost)
            assert lost.fault == Fault.REFUSED
            assert "allows 3 channels in a connection, and 3 queues take 4: raise" in lost.cause
    several.client.open()
    several.until(Opened)
    consume_all(several, 10)


def of_channels(driver: Driver) -> None:
    driver.until(Opened)
    for epoch, queue in enumerate(QUEUES, 1):
        driver.client.consume(queue, epoch, 10)


def of_connections(driver: Driver) -> None:
    """It has no time for more."""


@pytest.mark.parametrize(
    ("limits", "reach", "told"),
    [
        ('{"max-channels": 2}', of_channels, "number of channels opened for user"),
        ('{"max-connections": 0}', of_connections, "user connection limit"),
    ],
)
def test_a_limit_of_the_user_is_told_as_the_broker_says_it(
    own_broker: Broker, several: Driver, limits: str, reach: Callable[[Driver], None], told: str
) -> None:
    own_broker.ctl("set_user_limits", "guest", limits)
    try:
        several.client.open()
        reach(several)
        lost = several.until(Lost)
        assert lost.fault == Fault.REFUSED
        assert told in lost.cause
    finally:
        own_broker.ctl("clear_user_limits", "guest", "all")
