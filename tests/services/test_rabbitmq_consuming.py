"""Consuming and settling on a real broker."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pika
import pytest

from actors.connectors.rabbitmq.amqp import PROVEN, Link
from actors.connectors.rabbitmq.connection import RabbitMQClient
from actors.errors import Fault
from actors.logic.consuming.frames import Delivery
from actors.logic.settlement.ledger import Flush
from actors.logic.settlement.recurrence import Past, Recurrences
from actors.plan.plan import PipelinePlan
from actors.roles.port import Consuming, Depth, Fetched, Lost, Opened, QueueLost, Stopped
from tests.support.broker import Admin, Broker, RawProperties
from tests.support.driver import Driver


@pytest.fixture(params=[True, False], ids=["sliced", "by pika"])
def driver(
    broker: Broker, vhost: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Driver]:
    monkeypatch.setattr(Link, "slices", request.param)
    plan = PipelinePlan("rabbitmq", "amqp", broker.settings(vhost))
    with Driver(RabbitMQClient(plan)) as driver:
        driver.client.open()
        driver.until(Opened)
        yield driver


def test_the_pika_in_use_is_one_whose_read_path_is_known() -> None:
    """Where it is not: read what changed in its `_on_data_available` and `_output_marshaled_frames`
    and in its transports, run all tests with it, and name it in `PROVEN`."""
    assert version("pika") in PROVEN
    assert Link.slices


def deliveries(fetched: Fetched) -> list[Delivery]:
    start, found = 0, []
    ends: array[int] = array("I")
    ends.frombytes(fetched.ends)
    for end in ends:
        found.append(Delivery(fetched.blob[start:end]))
        start = end
    return found


def fetch(driver: Driver, queue: str, count: int, seconds: float = 10.0) -> list[Delivery]:
    """So many deliveries of a queue, whose positions count on."""
    found: list[Delivery] = []
    while len(found) < count:
        fetched = driver.until(Fetched, seconds, queue=queue)
        batch = deliveries(fetched)
        assert batch[0].delivery_tag == fetched.first
        found += batch
    return found


def consume(driver: Driver, queue: str, epoch: int = 1, window: int = 100) -> None:
    driver.client.consume(queue, epoch, window)
    driver.until(Consuming, queue=queue, epoch=epoch)


def after_shut(driver: Driver, admin: Admin, queue: str) -> int:
    """How many are ready once our connection has closed in order."""
    driver.client.shut()
    assert driver.until(Lost).cause == ""
    return admin.ready(queue)


def test_deliveries_arrive_whole_and_in_order(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    bodies = [b"%d" % number for number in range(500)]
    admin.publish("q", *bodies, content_type="text/plain")
    consume(driver, "q", window=1000)
    found = fetch(driver, "q", 500)
    assert [delivery.body for delivery in found] == bodies
    assert [delivery.delivery_tag for delivery in found] == list(range(1, 501))
    assert {(one.routing_key, one.exchange) for one in found} == {("q", "")}
    assert not any(one.redelivered for one in found)
    assert found[0].consumer_tag == "callboard"
    properties: Any = pika.BasicProperties()
    properties.decode(found[0].properties)
    assert properties.content_type == "text/plain"


def test_the_prefetch_holds(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    admin.publish("q", *[b"x"] * 30)
    consume(driver, "q", window=7)
    fetch(driver, "q", 7)
    assert not [event for event in driver.idle(0.3) if isinstance(event, Fetched)]
    driver.client.settle("q", 1, Flush(prefix=3, acked=((1, 3),)))
    assert [delivery.delivery_tag for delivery in fetch(driver, "q", 3)] == [8, 9, 10]


def test_a_flush_settles_each_delivery_as_it_says(driver: Driver, admin: Admin) -> None:
    admin.declare("dlx")
    admin.declare("q", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dlx"})
    admin.publish("q", *[b"%d" % number for number in range(1, 11)])
    consume(driver, "q")
    fetch(driver, "q", 10)
    driver.client.cancel("q", 1)
    driver.until(Stopped, queue="q", epoch=1)
    driver.client.settle(
        "q",
        1,
        Flush(
            prefix=4,
            acked=((1, 1), (4, 4), (7, 8)),
            failed=(2,),
            returned=(3,),
            rejected=(10,),
        ),
    )
    assert after_shut(driver, admin, "q") == 5  # 5, 6 and 9 with the connection
    back = sorted(int(admin.channel.basic_get("q")[2]) for _ in range(5))
    assert back == [2, 3, 5, 6, 9]
    assert admin.channel.basic_get("dlx")[2] == b"10"


def test_shutting_after_acks_leaves_nothing(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    admin.publish("q", *[b"x"] * 2000)
    consume(driver, "q", window=2000)
    fetch(driver, "q", 2000)
    odd = tuple((tag, tag) for tag in range(1, 2001, 2))
    even = tuple((tag, tag) for tag in range(2, 2001, 2))
    driver.client.settle("q", 1, Flush(prefix=1, acked=odd))
    driver.client.settle("q", 1, Flush(prefix=2000, acked=even))
    assert after_shut(driver, admin, "q") == 0


def test_a_late_settlement_of_an_old_epoch_is_dropped(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    admin.publish("q", b"a", b"b")
    consume(driver, "q", epoch=1)
    fetch(driver, "q", 2)
    consume(driver, "q", epoch=2)
    again = fetch(driver, "q", 2)
    assert [delivery.redelivered for delivery in again] == [True, True]
    driver.client.settle("q", 1, Flush(prefix=2, acked=((1, 2),)))
    driver.client.settle("q", 2, Flush(prefix=1, acked=((1, 1),)))
    assert after_shut(driver, admin, "q") == 1


def test_redeliveries_are_flagged(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    admin.publish("q", b"old")
    admin.channel.basic_nack(admin.channel.basic_get("q")[0].delivery_tag)
    admin.publish("q", b"new")
    consume(driver, "q")
    found: list[Fetched] = []
    while sum(len(one.ends) for one in found) < 8:
        found.append(driver.until(Fetched))
    assert [(one.first + index, n) for one in found for index, n in one.flagged] == [(1, 1)]


def test_a_deleted_queue_is_seen_at_once_and_the_other_goes_on(
    driver: Driver, admin: Admin
) -> None:
    for queue in ("doomed", "other"):
        admin.declare(queue)
        consume(driver, queue)
    admin.channel.queue_delete("doomed")
    lost = driver.until(QueueLost, 2.0)
    assert (lost.queue, lost.epoch, lost.fault) == ("doomed", 1, Fault.UNREACHABLE)
    assert "cancelled" in lost.cause
    driver.client.consume("doomed", 2, 10)
    assert driver.until(QueueLost, queue="doomed", epoch=2).fault == Fault.MISSING
    admin.publish("other", b"x")
    assert fetch(driver, "other", 1)


def test_a_channel_that_the_broker_closes_is_reported_alone(driver: Driver, admin: Admin) -> None:
    """B38"""
    for queue in ("wrong", "other"):
        admin.declare(queue)
        consume(driver, queue)
    driver.client.settle("wrong", 1, Flush(prefix=99, acked=((99, 99),)))
    lost = driver.until(QueueLost, 2.0)
    assert (lost.queue, lost.fault) == ("wrong", Fault.UNREACHABLE)
    assert "unknown delivery tag 99" in lost.cause
    admin.publish("other", b"x")
    admin.publish("wrong", b"y")
    assert fetch(driver, "other", 1)
    consume(driver, "wrong", epoch=2)
    assert fetch(driver, "wrong", 1)


def test_a_missing_queue_stops_no_other(driver: Driver, admin: Admin) -> None:
    driver.client.consume("missing", 1, 10)
    admin.declare("other")
    consume(driver, "other", epoch=2)
    lost = driver.until(QueueLost)
    assert (lost.queue, lost.epoch, lost.fault) == ("missing", 1, Fault.MISSING)
    assert "missing" in lost.cause
    assert "404" in lost.cause


def test_a_stream_is_refused_and_what_it_holds_stays(driver: Driver, admin: Admin) -> None:
    admin.declare("events", **{"x-queue-type": "stream"})
    admin.publish("events", b"before")
    admin.declare("q")
    consume(driver, "q")
    for epoch in (2, 3):  # also where it is asked again
        driver.client.consume("events", epoch, 10)
        lost = driver.until(QueueLost)
        assert (lost.queue, lost.epoch, lost.fault) == ("events", epoch, Fault.REFUSED)
        assert lost.cause.startswith("is a stream, and Callboard consumes classic and quorum")
    admin.publish("q", b"on")
    assert fetch(driver, "q", 1)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_came_out_of_a_stream_is_a_message_like_any_other(
    driver: Driver, admin: Admin, kind: str
) -> None:
    """A shovel keeps the header with the offset."""
    admin.declare("q", **{"x-queue-type": kind})
    admin.publish("q", b"x", headers={"x-stream-offset": 7})
    consume(driver, "q")
    assert fetch(driver, "q", 1)[0].body == b"x"


def test_a_big_body_comes_whole(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    body = bytes(range(256)) * (64 * 4096)  # 64 MiB
    admin.publish("q", b"before", body, b"", b"after")
    consume(driver, "q")
    found = fetch(driver, "q", 4, seconds=30.0)
    assert [len(delivery.body) for delivery in found] == [6, 64 * 1024 * 1024, 0, 5]
    assert found[1].body == body


@pytest.mark.parametrize("driver", [True], ids=["sliced"], indirect=True)
def test_headers_that_pika_cannot_decode_pass_through(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    for body, properties in (b"late", RawProperties.late()), (b"deep", RawProperties.deep()):
        admin.channel.basic_publish("", "q", body, properties)
    admin.publish("q", b"plain")
    consume(driver, "q")
    found = fetch(driver, "q", 3)
    assert [delivery.body for delivery in found] == [b"late", b"deep", b"plain"]
    assert b"when" in found[0].properties
    driver.client.consume("q", 2, 10)  # the old channel closes with deliveries on their way
    driver.until(Consuming, epoch=2)
    assert fetch(driver, "q", 3)


def test_depth_is_measured_of_what_is_ready(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    admin.publish("q", *[b"x"] * 3)
    driver.client.measure("missing")  # is no empty queue
    driver.client.measure("q")
    assert driver.until(Depth) == Depth("q", 3)


def test_cancelled_intake_keeps_what_is_unsettled(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    admin.publish("q", b"a", b"b")
    consume(driver, "q")
    fetch(driver, "q", 2)
    driver.client.cancel("q", 1)
    driver.until(Stopped, queue="q", epoch=1)
    admin.publish("q", b"late")
    assert not driver.idle(0.3)
    assert admin.ready("q") == 1
    driver.client.settle("q", 1, Flush(prefix=2, acked=((1, 2),)))
    assert after_shut(driver, admin, "q") == 1


def test_intake_that_is_cancelled_before_it_began_stops_all_the_same(
    driver: Driver, admin: Admin
) -> None:
    admin.declare("q")
    driver.client.consume("q", 1, 10)
    driver.client.cancel("q", 1)
    driver.until(Stopped, queue="q", epoch=1)


def test_a_gap_in_the_delivery_tags_ends_the_epoch(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    consume(driver, "q")
    buffer = next(iter(driver.client._link.slicer.sinks.values()))
    buffer._next = 5
    admin.publish("q", b"x")
    assert "delivery tag 1 came where 5 was due" in driver.until(QueueLost).cause


def test_what_a_quorum_queue_gives_back_is_known_again_as_the_same_message(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    """It comes with a count among its headers, and with these sorted."""
    admin.declare("q", **{"x-queue-type": "quorum"})
    mixed = {"z": 1, "a": "x", "m": True, "n": None, "t": {"b": 1, "a": [1, "y"]}}
    recurrences = Recurrences()
    with Driver(RabbitMQClient(PipelinePlan("r", "amqp", broker.settings(vhost)))) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q", 1, 1)
        for position, headers in ((1, None), (3, mixed)):
            admin.publish("q", b"body", headers=headers)
            first = driver.until(Fetched)
            assert not first.flagged
            recurrences.failed(first.blob, 1, marked=True)
            driver.client.settle("q", 1, Flush(0, failed=(position,)))
            again = driver.until(Fetched)
            assert b"x-delivery-count" in again.blob
            assert recurrences.past(again.blob) == Past(1, cleared=True)
            driver.client.settle("q", 1, Flush(position + 1, ((position + 1, position + 1),)))


def test_the_window_may_change_again_and_again(driver: Driver, admin: Admin) -> None:
    admin.declare("q")
    admin.publish("q", *[b"x"] * 60)
    consume(driver, "q", window=2)
    settled = came = 0
    for _ in range(3):
        for window in (6, 2):
            driver.client.widen("q", 1, window)
            came += len(fetch(driver, "q", settled + window - came))
            assert not [event for event in driver.idle(0.3) if isinstance(event, Fetched)]
            driver.client.settle("q", 1, Flush(prefix=came, acked=((settled + 1, came),)))
            settled = came
            came += len(fetch(driver, "q", window))
    driver.client.cancel("q", 1)
    driver.until(Stopped, queue="q", epoch=1)
    driver.client.resume("q", 1)
    driver.until(Consuming, queue="q", epoch=1)
    driver.client.widen("q", 1, 6)
    driver.client.settle("q", 1, Flush(prefix=came, acked=((settled + 1, came),)))
    assert len(fetch(driver, "q", 4)) >= 4
