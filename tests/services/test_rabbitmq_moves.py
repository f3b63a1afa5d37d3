"""Dead letters and retries on a real broker: confirmed, or reported as failed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pika
import pytest

from actors.connectors.rabbitmq.connection import RabbitMQClient
from actors.connectors.rabbitmq.publishing import copies
from actors.connectors.rabbitmq.publishing import republisher as mover_module
from actors.connectors.rabbitmq.queues.retry_queues import step
from actors.logic.messages.properties import join, split
from actors.logic.settlement.copying import Refusal
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import Fetched, Lost, Opened, Republish, Republished, RepublishFailed
from tests.stress.proxy import Mode, Proxy
from tests.support.broker import Admin, Broker, RawProperties, free_port
from tests.support.driver import Driver


@pytest.fixture
def driver(broker: Broker, vhost: str, admin: Admin) -> Iterator[Driver]:
    admin.declare("q")
    plan = PipelinePlan("rabbitmq", "amqp", broker.settings(vhost))
    with Driver(RabbitMQClient(plan)) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q", 1, 100)
        yield driver


def fetch(driver: Driver) -> Fetched:
    """The next delivery, which comes alone."""
    fetched = driver.until(Fetched)
    assert len(fetched.ends) == 4
    return fetched


def dead(raw: bytes, token: int = 1, **more: Any) -> Republish:
    return Republish(token, "q", 1, 1, True, raw=raw, **more)


def get(admin: Admin, queue: str) -> tuple[pika.BasicProperties, bytes]:
    method, properties, body = admin.channel.basic_get(queue, auto_ack=True)
    assert method is not None
    return properties, body


def test_a_client_that_was_closed_after_a_copy_has_nothing_to_do_or_to_say(
    driver: Driver, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    admin.publish("q", b"body")
    driver.client.republish(dead(driver.until(Fetched).blob))
    driver.until(Republished)
    driver.client.close()
    assert driver.client.deadline() is None
    assert driver.client.turn(time.monotonic()) == []
    driver.client.close()
    assert caplog.text == ""


def test_a_dead_letter_keeps_its_body_and_properties_and_tells_why(
    driver: Driver, admin: Admin
) -> None:
    admin.publish(
        "q", b"body", content_type="text/plain", priority=3, message_id="mine", expiration="60000",
        user_id="guest", headers={"answer": 42, "CC": ["elsewhere"], "x-callboard-attempts": 1},
    )  # fmt: skip
    raw = fetch(driver).blob
    driver.client.republish(
        dead(raw, attempts=8, route="index", error="ValueError", reason="é" * 5000)
    )
    assert driver.until(Republished).token == 1
    properties, body = get(admin, "q.dead")
    assert body == b"body"
    assert (properties.content_type, properties.priority) == ("text/plain", 3)
    assert (properties.message_id, properties.delivery_mode) == ("mine", 2)
    assert (properties.expiration, properties.user_id) == (None, None)
    headers = dict(properties.headers or {})
    moment = headers.pop("x-callboard-time")
    assert datetime.fromisoformat(moment).utcoffset() is not None
    assert headers == {
        "answer": 42,
        "x-callboard-attempts": 8,
        "x-callboard-error": "ValueError",
        "x-callboard-reason": "é" * 2000,
        "x-callboard-route": "index",
        "x-callboard-queue": "q",
    }


def test_a_copy_without_an_id_gets_the_same_one_each_time(driver: Driver, admin: Admin) -> None:
    admin.publish("q", b"body")
    raw = fetch(driver).blob
    for token in (1, 2):
        driver.client.republish(dead(raw, token))
        driver.until(Republished, token=token)
    ids = {get(admin, "q.dead")[0].message_id for _ in range(2)}
    assert len(ids) == 1
    assert ids != {None}


@pytest.mark.parametrize("properties", [RawProperties.late(), RawProperties.deep()])
def test_headers_that_pika_cannot_decode_are_copied_as_they_are(
    driver: Driver, admin: Admin, properties: RawProperties
) -> None:
    admin.channel.basic_publish("", "q", b"poison", properties)
    driver.client.republish(dead(fetch(driver).blob, reason="poison"))
    driver.until(Republished)
    driver.client.consume("q.dead", 1, 10)
    copy = fetch(driver).blob
    mark = properties.raw.index(b"when" if b"when" in properties.raw else b"deep")
    assert properties.raw[mark : mark + 13] in copy
    assert b"x-callboard-reason" in copy


def test_a_retry_comes_back_after_its_delay_however_often(driver: Driver, admin: Admin) -> None:
    admin.publish("q", b"again", headers={"mine": "kept"})
    for attempt in (1, 2, 3):
        raw = fetch(driver).blob
        started = time.monotonic()
        request = Republish(attempt, "q", 1, attempt, False, 0.2, attempts=attempt, raw=raw)
        driver.client.republish(request)
        driver.until(Republished, token=attempt)
        driver.client.settle("q", 1, Flush(attempt, ((attempt, attempt),)))
    fetch(driver)
    assert 0.9 < time.monotonic() - started < 5.0
    driver.client.shut()
    driver.until(Lost)
    properties, body = get(admin, "q")
    headers = dict(properties.headers or {})
    assert (body, headers["mine"], headers["x-callboard-attempts"]) == (b"again", "kept", 3)
    assert admin.ready("q") == 0


def test_a_copy_tells_the_attempts_of_the_next_hand_out(driver: Driver, admin: Admin) -> None:
    admin.publish("q", b"later")
    raw = fetch(driver).blob
    driver.client.republish(Republish(1, "q", 1, 1, False, 30.0, 3, raw=raw))
    driver.until(Republished)
    headers = get(admin, "q.retry.30")[0].headers or {}
    assert headers["x-callboard-attempts"] == 3


def test_a_dead_letter_queue_that_exists_is_not_changed(driver: Driver, admin: Admin) -> None:
    admin.declare("q.dead", **{"x-max-length": 5})
    admin.publish("q", b"x")
    driver.client.republish(dead(fetch(driver).blob))
    driver.until(Republished)
    assert admin.ready("q.dead") == 1


def test_a_queue_that_vanished_fails_once_and_is_made_again(driver: Driver, admin: Admin) -> None:
    admin.channel.basic_publish("", "q", b"x", RawProperties.late())
    raw = fetch(driver).blob
    driver.client.republish(dead(raw, 1))
    driver.until(Republished, token=1)
    admin.channel.queue_delete("q.dead")
    driver.client.republish(dead(raw, 2))
    assert "NO_ROUTE" in driver.until(RepublishFailed, token=2).cause
    driver.client.republish(dead(raw, 3))
    driver.until(Republished, token=3)


def test_a_queue_that_refuses_fails_the_move(driver: Driver, admin: Admin) -> None:
    admin.declare("q.dead", **{"x-max-length": 0, "x-overflow": "reject-publish"})
    admin.publish("q", b"x")
    driver.client.republish(dead(fetch(driver).blob))
    assert "refused" in driver.until(RepublishFailed).cause


@pytest.mark.parametrize("size", [130_000, 130_900, 131_000])
def test_headers_that_leave_no_room_cost_a_dead_letter_those_headers_and_a_retry_its_copy(
    driver: Driver, admin: Admin, size: int
) -> None:
    admin.publish("q", b"body", message_id="mine", headers={"large": "x" * size, "small": 1})
    raw = fetch(driver).blob
    driver.client.republish(dead(raw, reason="é" * 5000))
    driver.client.republish(Republish(2, "q", 1, 1, False, 0.1, 1, raw=raw))
    driver.until(Republished, token=1)
    properties, body = get(admin, "q.dead")
    headers = dict(properties.headers or {})
    assert (body, properties.message_id, headers["small"]) == (b"body", "mine", 1)
    assert f"large ({size + 5} bytes)" in headers["x-callboard-left-out"]
    if size > 130_900:
        assert driver.until(RepublishFailed, token=2).refusal is Refusal.UNFIT
    else:
        driver.until(Republished, token=2)


def test_a_copy_that_cannot_be_made_takes_none_of_its_neighbours_along(
    driver: Driver, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.publish("q", b"body")
    raw = fetch(driver).blob
    made = copies.properties

    def properties(request: Republish, *more: Any) -> bytes:
        if request.token == 5:
            raise OverflowError("int too big to convert")
        return made(request, *more)

    monkeypatch.setattr(copies, "properties", properties)
    for token in range(10):
        driver.client.republish(dead(raw, token))
    failed = driver.until(RepublishFailed)
    assert (failed.token, failed.refusal) == (5, Refusal.UNFIT)
    assert {driver.until(Republished).token for _ in range(9)} == set(range(10)) - {5}


def test_a_copy_that_closes_its_channel_is_found_and_its_neighbours_are_stored(
    driver: Driver, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.publish("q", b"body", reply_to="x")
    raw = fetch(driver).blob
    made = copies.properties

    def properties(request: Republish, delivery: Any, room: int) -> bytes:
        fields = split(made(request, delivery, room))
        if request.token == 5:  # nobody consumes the answers: 406
            name = b"amq.rabbitmq.reply-to"
            fields["reply_to"] = bytes([len(name)]) + name
        return join(fields)

    monkeypatch.setattr(copies, "properties", properties)
    for token in range(10):
        driver.client.republish(dead(raw, token))
    failed = driver.until(RepublishFailed)
    assert (failed.token, failed.refusal) == (5, Refusal.UNFIT)
    assert {driver.until(Republished).token for _ in range(9)} == set(range(10)) - {5}
    assert admin.ready("q.dead") >= 9


def test_many_moves_at_once_are_each_confirmed(driver: Driver, admin: Admin) -> None:
    admin.publish("q", b"x")
    raw = fetch(driver).blob
    for token in range(300):
        driver.client.republish(dead(raw, token))
    assert {driver.until(Republished).token for _ in range(300)} == set(range(300))
    assert admin.ready("q.dead") == 300


def test_a_client_that_is_closed_in_the_middle_of_its_goodbye_leaves_nothing_open(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    admin.declare("q")
    admin.publish("q", b"x")
    before = set(os.listdir("/proc/self/fd"))
    proxy = Proxy(broker.port)
    settings = broker.settings(vhost, port=proxy.port)
    with Driver(RabbitMQClient(PipelinePlan("rabbitmq", "amqp", settings))) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q", 1, 100)
        driver.client.republish(dead(fetch(driver).blob))
        driver.until(Republished)
        proxy.mode = Mode.SWALLOW_DOWN  # nobody answers it
        driver.client.shut()
    proxy.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_broker_low_on_memory_fails_moves_and_still_takes_acks(
    own_broker: Broker, driver: Driver, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover_module, "CONFIRM_TIMEOUT_S", 2.0)
    admin.publish("q", b"x")
    raw = fetch(driver).blob
    driver.client.republish(dead(raw, 1))
    driver.until(Republished, token=1)
    own_broker.ctl("set_vm_memory_high_watermark", "0")
    try:
        driver.client.republish(dead(raw, 2))
        cause = driver.until(RepublishFailed, token=2).cause
        assert "low on memory" in cause
    finally:
        own_broker.ctl("set_vm_memory_high_watermark", "0.4")
    driver.client.republish(dead(raw, 3))
    driver.until(Republished, token=3)


def test_moves_to_nowhere_fail_with_the_cause() -> None:
    settings = json.dumps({"port": free_port()})
    with Driver(RabbitMQClient(PipelinePlan("rabbitmq", "amqp", settings))) as driver:
        driver.client.republish(dead(b""))
        assert "refused" in driver.until(RepublishFailed).cause.lower()


def test_a_delay_is_rounded_up_to_a_step() -> None:
    delays = (0.0, 1.0, 1.1, 6.0, 61.0, 3600.0, 3601.0, 86400.0)
    assert [step(delay) for delay in delays] == [1, 1, 2, 10, 120, 3600, 7200, 86400]


# ── the queue of dead letters ────────────────────────────────────────────────


def kind_of(broker: Broker, vhost: str, queue: str) -> str:
    lines = broker.ctl("list_queues", "-p", vhost, "name", "type").splitlines()
    return dict(line.split("\t") for line in lines if "\t" in line)[queue]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_dead_letters_lie_in_a_queue_of_the_same_type_which_deletes_none(
    own_broker: Broker, vhost: str, driver: Driver, admin: Admin, kind: str
) -> None:
    admin.declare("of", **{"x-queue-type": kind})
    driver.client.consume("of", 2, 10)
    admin.publish("of", b"body")
    raw = driver.until(Fetched, queue="of").blob
    driver.client.republish(dead(raw)._replace(queue="of", epoch=2))
    driver.until(Republished)
    assert kind_of(own_broker, vhost, "of.dead") == kind
    for _ in range(25):
        connection = Admin(own_broker, vhost).connection
        method, *_ = connection.channel().basic_get("of.dead")
        assert method is not None
        connection.close()
        admin.channel.connection.sleep(0.05)  # until it is back


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_of_dead_letters_that_is_there_stays_as_it_is(
    own_broker: Broker, vhost: str, driver: Driver, admin: Admin, kind: str
) -> None:
    admin.declare("q.dead", **{"x-queue-type": kind, "x-max-length": 7})
    admin.publish("q", b"body")
    driver.client.republish(dead(fetch(driver).blob))
    driver.until(Republished)
    assert kind_of(own_broker, vhost, "q.dead") == kind
