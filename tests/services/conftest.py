"""Fixtures for whole systems: where messages come from, and workers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services.worker import BrokerPlace, Place, SpoolPlace, Worker
from tests.support.broker import Broker, ForeignBroker, binaries, missing

Run = Callable[..., Worker]


@pytest.fixture(scope="session")
def stage_vhost(broker: Broker) -> Iterator[str]:
    """One for all whole systems: to make and delete a vhost takes longer than many a test."""
    name = broker.add_vhost()
    yield name
    broker.delete_vhost(name)


@pytest.fixture
def rabbitmq(broker: Broker, stage_vhost: str) -> Iterator[BrokerPlace]:
    """A broker with the queue "work"; its queues are deleted after the test."""
    place = BrokerPlace(broker, stage_vhost)
    place.delete_all()
    place.declare("work")
    yield place
    place.delete_all()


@pytest.fixture
def own_rabbitmq(rabbitmq: BrokerPlace, broker: Broker) -> BrokerPlace:
    """One that may be stopped and killed."""
    if isinstance(broker, ForeignBroker):
        pytest.skip("a broker named by CALLBOARD_TEST_AMQP is not ours to break")
    return rabbitmq


@pytest.fixture(scope="module", params=[None, "4.0", "4.3"], ids=["oldest", "4.0", "4.3"])
def each_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A node of each version."""
    if binaries(request.param) is None:
        pytest.skip(missing(request.param))
    node = Broker(version=request.param)
    yield node
    node.stop()


@pytest.fixture
def each_rabbitmq(each_broker: Broker) -> Iterator[BrokerPlace]:
    """A vhost of its own on each."""
    vhost = each_broker.add_vhost()
    yield BrokerPlace(each_broker, vhost)
    each_broker.delete_vhost(vhost)


@pytest.fixture
def spool(tmp_path: Path) -> SpoolPlace:
    return SpoolPlace(tmp_path / "spool.db")


@pytest.fixture(params=["spool", "rabbitmq"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each connection in turn, with the queue "work"."""
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start workers; whatever becomes of the test, no process of them stays."""
    workers: list[Worker] = []

    def start(app: str, *flags: str, **environment: str) -> Worker:
        workers.append(Worker(tmp_path, app, *flags, **environment))
        return workers[-1]

    yield start
    for worker in workers:
        worker.destroy()
