"""A broker that takes back what it gave: queues, channels, permissions, passwords, vhosts.

What time alone does not heal is asked for once a minute, each try one line, and the system is
not ready meanwhile; it recovers within that minute and five seconds once all is given back.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Worker, numbers, put, until, until_is
from tests.stress.proxy import Proxy
from tests.stress.rig import account
from tests.support.broker import Broker

RETRY = 60.0 + 5.0

#: basic.ack of delivery 2**40 on channel 1, as a frame.
_ACK = struct.pack("!HHQB", 60, 80, 2**40, 0)
UNKNOWN_ACK = struct.pack("!BHI", 1, 1, len(_ACK)) + _ACK + b"\xce"

QUEUES = ("work", "more", "async", "class")


class Tenant:
    """A user with a vhost of its own, and a worker there."""

    def __init__(self, broker: Broker, directory: Path) -> None:
        self.name = f"tenant-{secrets.token_hex(4)}"
        self.ctl = broker.ctl
        self.ctl("add_user", self.name, self.name)
        self.settle()
        url = f"amqp://{self.name}:{self.name}@127.0.0.1:{broker.port}/{self.name}"
        self.place = BrokerPlace(broker, self.name)
        self.place.declare("work")
        self.worker = Worker(directory, "plain", "--connection", url)
        self.worker.ready()

    def settle(self) -> None:
        self.ctl("add_vhost", self.name)
        for user in (self.name, "guest"):
            self.permit(user)

    def permit(self, user: str, what: str = ".*") -> None:
        self.ctl("set_permissions", "-p", self.name, user, what, what, what)

    def hang_up(self) -> None:
        self.ctl("close_all_connections", "--vhost", self.name, "test")

    def leave(self) -> None:
        self.worker.destroy()
        self.ctl("delete_user", self.name)


GiveBack = Callable[[], object]


def lose_permissions(tenant: Tenant) -> tuple[str, GiveBack]:
    tenant.permit(tenant.name, "^$")
    tenant.hang_up()
    return "ACCESS_REFUSED", lambda: tenant.permit(tenant.name)


def lose_password(tenant: Tenant) -> tuple[str, GiveBack]:
    tenant.ctl("change_password", tenant.name, "another")
    tenant.hang_up()
    return "ACCESS_REFUSED", lambda: tenant.ctl("change_password", tenant.name, tenant.name)


def lose_vhost(tenant: Tenant) -> tuple[str, GiveBack]:
    tenant.ctl("delete_vhost", tenant.name)

    def give_back() -> None:
        tenant.settle()
        tenant.place.declare("work")

    return "not found", give_back


def goes_and_comes(tenant: Tenant, lose: Callable[[Tenant], tuple[str, GiveBack]]) -> None:
    worker, place = tenant.worker, tenant.place
    put(place, "work", *numbers(range(10)))
    until_is(10, lambda: len(worker.times()))
    until_is(0, lambda: worker.status()["totals"]["in_flight"])
    told, give_back = lose(tenant)
    until(lambda: told in worker.output, 35.0, told)
    until(lambda: not worker.status()["ready"], 5.0, "not ready")
    give_back()
    put(place, "work", *numbers(range(10, 20)))
    account(worker, place, 20, RETRY)
    lines = [line for line in worker.output.splitlines() if told in line]
    assert len(lines) == 1, lines
    assert "Traceback" not in worker.output


def test_what_is_taken_away_from_a_running_worker_is_asked_for_every_minute(
    own_rabbitmq: BrokerPlace, tmp_path: Path
) -> None:
    """Three workers side by side, for each waits a minute."""
    losses = (lose_permissions, lose_password, lose_vhost)
    tenants = [Tenant(own_rabbitmq.broker, tmp_path / loss.__name__) for loss in losses]
    try:
        with ThreadPoolExecutor(len(losses)) as threads:
            list(threads.map(goes_and_comes, tenants, losses))
    finally:
        for tenant in tenants:
            tenant.leave()


def test_queues_that_are_deleted_again_and_again_cost_no_process(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    """As a cluster does to consumers whose leaders move: all at once, over and over.

    One that was asked for while it did not exist is asked for again in a minute.
    """
    for queue in QUEUES:
        rabbitmq.declare(queue)
    worker = run("every", "--connection", rabbitmq.url)
    pids = worker.pids("connection") + worker.pids("batcher") + worker.pids("handler")
    for _ in range(10):
        for queue in QUEUES:
            rabbitmq.delete(queue)
            rabbitmq.declare(queue)
    for number, queue in enumerate(QUEUES):
        put(rabbitmq, queue, *numbers(range(number * 100, number * 100 + 100)))
    account(worker, rabbitmq, 400, RETRY)
    assert "died: " not in worker.output
    assert "connection rabbitmq lost: " not in worker.output
    assert len(pids) == len(set(pids))


def test_a_channel_that_the_broker_closes_is_opened_again_alone(
    own_rabbitmq: BrokerPlace, run: Run
) -> None:
    """After an acknowledgement of nothing, which ends a channel and gives back what was on it."""
    for queue in QUEUES:
        own_rabbitmq.declare(queue)
    proxy = Proxy(own_rabbitmq.broker.port)
    try:
        worker = run("every", "--connection", proxy.instead_of(own_rabbitmq.url), PACE="0.05")
        worker.ready()
        for number, queue in enumerate(QUEUES):
            put(own_rabbitmq, queue, *numbers(range(number * 200, number * 200 + 200)))
        until(lambda: worker.handled())
        until_is(0, lambda: worker.status()["totals"]["in_flight"])
        proxy.inject(UNKNOWN_ACK)
        until(lambda: "unknown delivery tag" in worker.output)
        put(own_rabbitmq, "work", *numbers(range(800, 1000)))
        account(worker, own_rabbitmq, 1000, 35.0)
        assert worker.output.count("lost queue") == 1
        assert "connection rabbitmq lost" not in worker.output
    finally:
        proxy.close()
