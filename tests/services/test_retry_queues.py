"""Retries and dead letters on a real broker: where they wait, and what is kept of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from actors.connectors.rabbitmq.admin import BrokerAdmin
from actors.connectors.rabbitmq.connection import RabbitMQClient
from actors.connectors.rabbitmq.message import decode_properties
from actors.connectors.rabbitmq.queues import retry_queues as ladder
from actors.connectors.rabbitmq.queues.retry_queues import arguments, is_safe
from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.file import SpoolFile
from actors.errors import Fault
from actors.logic.consuming.frames import Delivery
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan, RoutePlan
from actors.roles.port import (
    Consuming,
    Fetched,
    Opened,
    QueueLost,
    Republish,
    Republished,
    RepublishFailed,
)
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, put, until
from tests.support.broker import Admin, Broker
from tests.support.driver import Driver

SAFE = {
    "x-queue-type": "quorum",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}

NEEDED = r"retries need configure and read on ^q\.retry\.[0-9]+$, and write on ^amq\.default$"


@pytest.fixture(params=["classic", "quorum"])
def driver(
    request: pytest.FixtureRequest, broker: Broker, vhost: str, admin: Admin, tmp_path: Path
) -> Iterator[Driver]:
    admin.declare("q", **{"x-queue-type": request.param})
    plan = PipelinePlan("rabbitmq", "amqp", broker.settings(vhost), state_dir=str(tmp_path))
    with Driver(RabbitMQClient(plan)) as driver:
        begin(driver)
        yield driver


def begin(driver: Driver) -> None:
    driver.client.open()
    driver.until(Opened)
    driver.client.consume("q", 1, 100)
    driver.until(Consuming)


def retry(raw: bytes, token: int = 1, **more: Any) -> Republish:
    return Republish(token, "q", 1, token, False, 0.5, attempts=token, raw=raw, **more)


def test_a_retry_waits_in_a_queue_that_keeps_it_until_it_is_back(
    driver: Driver, admin: Admin
) -> None:
    admin.publish("q", b"body", message_id="mine")
    raw = driver.until(Fetched).blob
    started = time.monotonic()
    driver.client.republish(retry(raw))
    driver.until(Republished)
    driver.client.settle("q", 1, Flush(1, ((1, 1),)))
    waits = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q", **SAFE}
    admin.declare("q.retry.1", **{"x-message-ttl": 1000, **waits})
    again = driver.until(Fetched)
    assert 0.9 < time.monotonic() - started < 5.0
    assert b"mine" in again.blob
    assert again.flagged or b"x-callboard-attempts" in again.blob


def death_of(queue: str) -> dict[str, Any]:
    """The headers of a message that expired in a queue and was moved back by hand."""
    died = {
        "queue": queue,
        "reason": "expired",
        "count": 1,
        "exchange": "",
        "routing-keys": [queue],
    }
    return {
        "x-death": [died],
        "x-first-death-queue": queue, "x-first-death-reason": "expired",
        "x-last-death-queue": queue, "x-last-death-reason": "expired",
    }  # fmt: skip


@pytest.mark.parametrize("safe", [True, False])
def test_a_retry_or_a_snooze_of_what_once_died_in_its_queue_comes_back(
    driver: Driver, admin: Admin, safe: bool
) -> None:
    admin.declare("q.retry.1", **arguments("q", 1, safe))
    admin.publish("q", b"body", message_id="mine", headers={"mine": 1, **death_of("q")})
    driver.client.republish(retry(driver.until(Fetched).blob))
    driver.until(Republished)
    driver.client.settle("q", 1, Flush(1, ((1, 1),)))
    again = Delivery(driver.until(Fetched).blob)
    headers = decode_properties(again.properties).headers or {}
    assert (again.body, headers["mine"]) == (b"body", 1)
    assert [death["queue"] for death in headers["x-death"]] == ["q.retry.1"]


def test_a_dead_letter_and_its_redrive_know_no_death_but_the_last(
    driver: Driver, broker: Broker, vhost: str, admin: Admin
) -> None:
    admin.publish("q", b"body", headers={"mine": 1, **death_of("q")})
    driver.client.republish(retry(driver.until(Fetched).blob)._replace(dead=True))
    driver.until(Republished)
    driver.client.settle("q", 1, Flush(1, ((1, 1),)))
    admin.publish("q.dead", b"body", headers={"CC": ["other"], "mine": 1, **death_of("q")})
    for queue in ("other", "back"):
        admin.declare(queue)
    BrokerAdmin(broker.settings(vhost)).redrive("q", to="back")
    redriven = [admin.channel.basic_get("back", auto_ack=True)[1] for _ in range(2)]
    assert [properties.headers for properties in redriven] == [{"mine": 1}] * 2
    assert admin.ready("other") == 0


@pytest.mark.parametrize("failed", [True, False])
@pytest.mark.parametrize("headers", [None, {"z": 1, "a": [1, {"b": None}], "m": "x" * 300}])
def test_copies_of_a_message_without_an_id_have_one_id_however_often_it_is_delivered(
    driver: Driver, admin: Admin, headers: dict[str, Any] | None, failed: bool
) -> None:
    admin.publish("q", b"body", headers=headers, content_type="text/plain", timestamp=1)
    for position in (1, 2, 3):
        request = retry(driver.until(Fetched).blob, position)
        driver.client.republish(request._replace(dead=True, position=position))
        driver.until(Republished)
        back = (position,)
        flush = Flush(failed=back) if failed else Flush(returned=back)
        driver.client.settle("q", 1, flush)
    copies = [admin.channel.basic_get("q.dead", auto_ack=True)[1] for _ in range(3)]
    assert len({copy.message_id for copy in copies}) == 1
    assert copies[0].message_id


def test_a_retry_outlives_a_broker_that_is_killed_while_it_waits(
    own_broker: Broker, vhost: str, admin: Admin, tmp_path: Path
) -> None:
    admin.declare("q", **{"x-queue-type": "quorum"})
    admin.declare("q.retry.1", **arguments("q", 1, safe=True))
    # RabbitMQ 3.10 forgets what is in a quorum queue that was made half a second before it is
    # killed: the table in which it looks up the queue's log is written that late.
    own_broker.evaluate("[dets:sync(Table) || Table <- dets:all()].")
    admin.publish("q", *(b"%d" % n for n in range(20)))
    plan = PipelinePlan("rabbitmq", "amqp", own_broker.settings(vhost), state_dir=str(tmp_path))
    with Driver(RabbitMQClient(plan)) as driver:
        begin(driver)
        raws: list[bytes] = []
        while len(raws) < 20:
            fetched = driver.until(Fetched)
            ends = memoryview(fetched.ends).cast("I").tolist()
            starts = [0, *ends]
            raws += [fetched.blob[a:b] for a, b in zip(starts, ends, strict=False)]
        for token, raw in enumerate(raws, 1):
            driver.client.republish(retry(raw, token))
        for _ in raws:
            driver.until(Republished)
        driver.client.settle("q", 1, Flush(20, ((1, 20),)))
        until(lambda: driver.idle(0.05) is not None and admin.ready("q") == 0)
        own_broker.kill()
        own_broker.start()
    again = Admin(own_broker, vhost)
    bodies: set[bytes] = set()

    def came_back() -> bool:
        method, _, body = again.channel.basic_get("q", auto_ack=True)
        bodies.update([body] if method else [])
        return len(bodies) == 20

    until(came_back, 30.0)
    again.connection.close()


def test_a_broker_that_cannot_keep_what_expires_is_known_by_its_version() -> None:
    assert is_safe({"product": "RabbitMQ", "version": "3.10.8"})
    assert is_safe({"product": "RabbitMQ", "version": "4.1.0"})
    assert not is_safe({"product": "RabbitMQ", "version": "3.9.29"})
    assert not is_safe({"product": "LavinMQ", "version": "3.12"})
    assert not is_safe({})


def test_what_can_be_lost_is_named_where_the_broker_cannot_keep_what_expires(
    driver: Driver,
    admin: Admin,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ladder, "is_safe", lambda _: False)
    admin.publish("q", b"body")
    driver.client.republish(retry(driver.until(Fetched).blob))
    driver.until(Republished)
    admin.declare("q.retry.1", **arguments("q", 1, safe=False))
    assert "retries of q wait in a classic queue" in caplog.text
    assert "can be lost" in caplog.text


def test_where_dead_letters_may_not_be_declared_the_spool_keeps_them(
    own_broker: Broker, vhost: str, admin: Admin, reader: str, tmp_path: Path
) -> None:
    admin.declare("q")
    admin.publish("q", b"body", message_id="mine", headers={"n": 1})
    settings = own_broker.settings(vhost, user=reader, password="secret")
    plan = PipelinePlan("rabbitmq", "amqp", settings, state_dir=str(tmp_path))
    with Driver(RabbitMQClient(plan)) as driver:
        begin(driver)
        raw = driver.until(Fetched).blob
        dead = Republish(
            1, "q", 1, 1, True, attempts=3, route="work", error="ValueError", reason="no", raw=raw
        )
        driver.client.republish(dead)
        driver.until(Republished, token=1)
        driver.client.republish(retry(raw, 2))
        cause = driver.until(RepublishFailed, token=2).cause
    assert f"q.retry.1' in vhost '{vhost}' refused for user '{reader}': {NEEDED}" in cause
    (letter,) = SpoolAdmin(SpoolFile(tmp_path / "spool.db")).dead("q")
    assert (letter.id, letter.body, letter.headers) == ("mine", b"body", {"n": 1})
    assert (letter.attempts, letter.error, letter.reason) == (3, "ValueError", "no")


@pytest.fixture
def reader(own_broker: Broker, vhost: str) -> Iterator[str]:
    """A user who may consume and publish, and declare nothing."""
    with own_broker.limited_user(vhost, "^$", ".*", ".*") as name:
        yield name


def with_retries(broker: Broker, vhost: str, **changes: Any) -> PipelinePlan:
    routes = (RoutePlan("work", ("q",), first_retry=0.5),)
    return PipelinePlan("rabbitmq", "amqp", broker.settings(vhost, **changes), routes)


def test_who_may_not_make_the_queue_of_a_retry_is_told_before_anything_is_consumed(
    own_broker: Broker, vhost: str, admin: Admin, reader: str
) -> None:
    admin.declare("q")
    plan = with_retries(own_broker, vhost, user=reader, password="secret")
    with Driver(RabbitMQClient(plan)) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q", 1, 100)
        lost = driver.until(QueueLost)
        assert lost.fault == Fault.REFUSED
        # From 4.3 on the broker says which access: "configure access to queue".
        assert lost.cause.replace(" configure access", " access") == (
            "q.retry.1: 403 ACCESS_REFUSED - access to queue 'q.retry.1' in vhost"
            f" '{vhost}' refused for user '{reader}': {NEEDED};"
            " or give the route an action, and no Retry"
        )
        pattern = r"^q\.retry\.[0-9]+$"
        own_broker.ctl("set_permissions", "-p", vhost, reader, pattern, r"^amq\.default$", "^q")
        driver.client.consume("q", 2, 100)
        driver.until(Consuming, epoch=2)
    admin.declare("q.retry.1", **arguments("q", 1, safe=True))


def test_a_waiting_queue_that_is_there_already_need_not_be_made(
    own_broker: Broker, vhost: str, admin: Admin, reader: str
) -> None:
    admin.declare("q")
    admin.declare("q.retry.1", **{"x-max-length": 10})
    plan = with_retries(own_broker, vhost, user=reader, password="secret")
    with Driver(RabbitMQClient(plan)) as driver:
        begin(driver)


def test_a_queue_whose_name_leaves_no_room_for_that_of_its_retries_is_refused(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    admin.declare("q" * 250)
    plan = PipelinePlan(
        "rabbitmq", "amqp", broker.settings(vhost),
        (RoutePlan("work", ("q" * 250,), first_retry=1.0),),
    )  # fmt: skip
    with Driver(RabbitMQClient(plan)) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q" * 250, 1, 100)
        lost = driver.until(QueueLost)
    assert lost.fault == Fault.REFUSED
    assert lost.cause.startswith("queue name of more than 255 bytes: qqq")


def test_a_worker_that_may_not_make_its_waiting_queues_does_not_start(
    own_broker: Broker, vhost: str, admin: Admin, reader: str, run: Run
) -> None:
    admin.declare("work")
    url = f"amqp://{reader}:secret@{own_broker.host}:{own_broker.port}/{vhost}"
    worker = run("fragile", "--connection", url)
    assert worker.wait() == 78
    assert "connection rabbitmq: queue work: work.retry.1: 403 ACCESS_REFUSED" in worker.output
    assert "retries need configure and read on ^work" in worker.output
    assert "Traceback" not in worker.output


def test_a_redrive_begins_anew_and_what_the_broker_killed_is_redriven_too(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    admin.declare("q.dead")
    admin.declare("q", **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q.dead"})
    admin.publish("q", b"rejected")
    method, _, _ = admin.channel.basic_get("q")
    admin.channel.basic_reject(method.delivery_tag, requeue=False)
    until(lambda: admin.ready("q.dead") == 1)
    ours = {"x-callboard-attempts": 8, "x-callboard-error": "ValueError", "mine": 1}
    admin.publish("q.dead", b"given up", headers=ours)
    letters = BrokerAdmin(broker.settings(vhost))
    assert [letter.attempts for letter in letters.dead("q")] == [1, 8]
    assert len(letters.redrive("q")) == 2
    assert admin.ready("q.dead") == 0
    found: list[tuple[pika.BasicProperties, bytes]] = [
        admin.channel.basic_get("q", auto_ack=True)[1:] for _ in range(2)
    ]
    assert [body for _, body in found] == [b"rejected", b"given up"]
    assert [properties.headers or {} for properties, _ in found] == [{}, {"mine": 1}]


def test_of_a_bulk_that_raises_the_last_attempt_of_each_message_is_made_alone(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    put(rabbitmq, "work", *({"n": n, "do": "raise" if n == 3 else ""} for n in range(8)))
    worker = run("fragile", "--connection", rabbitmq.url)
    until(lambda: len(rabbitmq.dead("work")) == 1, 30.0)
    until(lambda: rabbitmq.ready("work") == 0)
    worker.launcher.terminate()
    assert worker.wait() == 0
    handled = worker.handled()
    last = [line for line in handled if line["n"] == 3][-1]
    assert (last["bulk"], last["attempts"]) == (1, 2)
    (letter,) = rabbitmq.dead("work")
    assert (letter.error, letter.attempts, letter.route) == ("ValueError", 3, "work")
    assert set(worker.times()) == set(range(8))
