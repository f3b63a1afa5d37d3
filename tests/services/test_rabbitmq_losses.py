"""Connections that cannot be made, or are lost: each tells why, and whose fault it is."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from actors.connectors.rabbitmq.connection import RabbitMQClient
from actors.errors import Fault
from actors.plan.plan import PipelinePlan
from actors.roles.port import Consuming, Fetched, Lost, Opened, QueueLost
from tests.support.broker import Admin, Broker, free_port
from tests.support.driver import Driver

SECRET = "hunter2-canary"


def client(settings: str) -> RabbitMQClient:
    return RabbitMQClient(PipelinePlan("rabbitmq", "amqp", settings))


def loss(settings: str, seconds: float = 15.0) -> Lost:
    """How opening with such settings fails."""
    with Driver(client(settings)) as driver:
        driver.client.open()
        lost = driver.until(Lost, seconds)
        assert not [event for event in driver.idle(0.1) if isinstance(event, Lost)]
    assert SECRET not in lost.cause
    assert "\n" not in lost.cause
    return lost


def test_a_wrong_password_is_refused(broker: Broker, vhost: str) -> None:
    lost = loss(broker.settings(vhost, password=SECRET))
    assert lost.fault == Fault.REFUSED
    assert "403 ACCESS_REFUSED" in lost.cause
    assert f"{broker.host}:{broker.port}/{vhost}" in lost.cause


def test_a_missing_vhost_is_refused(broker: Broker) -> None:
    lost = loss(broker.settings("nowhere"))
    assert lost.fault == Fault.REFUSED
    assert "530" in lost.cause
    assert "nowhere" in lost.cause


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    lost = loss(json.dumps({"port": free_port(), "password": SECRET}))
    assert lost.fault == Fault.UNREACHABLE
    assert "refused" in lost.cause.lower()


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    lost = loss(json.dumps({"host": "broker.invalid"}), seconds=30.0)
    assert lost.fault == Fault.UNREACHABLE
    assert "broker.invalid:5672/" in lost.cause


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_a_peer_that_says_nothing_is_given_up(listener: socket.socket) -> None:
    lost = loss(json.dumps({"port": listener.getsockname()[1], "connection_timeout": 0.5}))
    assert lost.fault == Fault.UNREACHABLE
    assert "timeout" in lost.cause.lower()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\0\1\0\0", b""])
def test_a_peer_that_speaks_something_else_is_unreachable(
    listener: socket.socket, answer: bytes
) -> None:
    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(100)
            peer.sendall(answer)

    server = threading.Thread(target=serve)
    server.start()
    lost = loss(json.dumps({"port": listener.getsockname()[1], "connection_timeout": 2}))
    server.join()
    assert lost.fault == Fault.UNREACHABLE
    assert lost.cause


def test_a_queue_without_permission_is_refused_alone(
    own_broker: Broker, admin: Admin, vhost: str
) -> None:
    admin.declare("q")
    own_broker.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", "^$")
    with Driver(client(own_broker.settings(vhost))) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q", 1, 10)
        lost = driver.until(QueueLost)
        assert (lost.fault, "403" in lost.cause) == (Fault.REFUSED, True)


def test_a_broker_that_shuts_down_says_so_and_is_found_again(
    own_broker: Broker, admin: Admin, vhost: str
) -> None:
    admin.declare("q")
    admin.publish("q", b"x", delivery_mode=2)
    with Driver(client(own_broker.settings(vhost))) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q", 1, 10)
        driver.until(Fetched)
        own_broker.ctl("stop_app")
        lost = driver.until(Lost)
        assert (lost.fault, "320" in lost.cause) == (Fault.UNREACHABLE, True)
        driver.client.open()
        assert driver.until(Lost).fault == Fault.UNREACHABLE
        own_broker.ctl("start_app")
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q", 2, 10)
        driver.until(Consuming, epoch=2)
        assert driver.until(Fetched, epoch=2).flagged == ((0, 1),)


def test_a_broker_that_is_killed_is_lost_and_found_again(own_broker: Broker, vhost: str) -> None:
    """B38"""
    with Driver(client(own_broker.settings(vhost))) as driver:
        driver.client.open()
        driver.until(Opened)
        own_broker.kill()
        lost = driver.until(Lost, 5.0)
        assert (lost.fault, bool(lost.cause)) == (Fault.UNREACHABLE, True)
        own_broker.start()
        driver.client.open()
        driver.until(Opened)


def test_an_idle_connection_is_kept_by_heartbeats(broker: Broker, vhost: str) -> None:
    with Driver(client(broker.settings(vhost, heartbeat=1))) as driver:
        driver.client.open()
        driver.until(Opened)
        assert not driver.idle(3.5)  # the broker drops a silent peer after 2 s


def test_calls_without_a_connection_do_no_harm(broker: Broker, vhost: str) -> None:
    with Driver(client(broker.settings(vhost))) as driver:
        driver.client.consume("q", 1, 10)
        assert driver.until(QueueLost, epoch=1).fault == Fault.UNREACHABLE
        driver.client.cancel("q", 1)
        driver.client.measure("q")
        driver.client.shut()
        assert driver.until(Lost).cause == ""


def test_closing_while_connecting_leaves_nothing_open(listener: socket.socket) -> None:
    driver = Driver(client(json.dumps({"port": listener.getsockname()[1]})))
    driver.client.open()
    for _ in range(5):
        driver.turn(0.05)
    driver.client.close()
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(5)
        while peer.recv(100):
            pass


# ── TLS ────────────────────────────────────────────────────────────────────────


def tls(broker: Broker, vhost: str, **changes: object) -> str:
    wanted = {"host": "localhost", "port": broker.tls_port, "ssl": True, "ca_file": broker.ca_file}
    return broker.settings(vhost, **(wanted | changes))


def test_deliveries_come_through_tls(own_broker: Broker, admin: Admin, vhost: str) -> None:
    admin.declare("q")
    admin.publish("q", *[b"x" * 5000] * 200)
    with Driver(client(tls(own_broker, vhost))) as driver:
        driver.client.open()
        driver.until(Opened)
        driver.client.consume("q", 1, 1000)
        driver.until(Consuming)
        count = 0
        while count < 200:
            count += len(driver.until(Fetched).ends) // 4
        driver.client.shut()
        assert driver.until(Lost).cause == ""


@pytest.mark.parametrize("changes", [{"host": "127.0.0.1"}, {"ca_file": None}])
def test_a_certificate_that_does_not_hold_is_refused(
    own_broker: Broker, vhost: str, changes: dict[str, str]
) -> None:
    lost = loss(tls(own_broker, vhost, **changes))
    assert lost.fault == Fault.REFUSED
    assert "TLS" in lost.cause


def test_verification_can_be_waived(own_broker: Broker, vhost: str) -> None:
    settings = tls(own_broker, vhost, host="127.0.0.1", ca_file=None, verify=False)
    with Driver(client(settings)) as driver:
        driver.client.open()
        driver.until(Opened)


def test_a_missing_authority_file_is_refused(own_broker: Broker, vhost: str) -> None:
    lost = loss(tls(own_broker, vhost, ca_file="/nowhere/ca.pem"))
    assert (lost.fault, "TLS files" in lost.cause) == (Fault.REFUSED, True)
