"""Fixtures for all tiers: a real broker for those that ask for one, started when first asked."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import pytest
from pika.exceptions import AMQPError

from tests.support.broker import Admin, Broker, ForeignBroker, binaries, missing
from tests.support.namespaces import Network, switch


@pytest.fixture(autouse=True)
def as_loud_as_before() -> Iterator[None]:
    """A command that is carried out in this process sets how much is logged from then on, and
    by whom: repeated failures of a worker are summed up."""
    loggers = [logging.getLogger(name) for name in ("", "actors")]
    levels = [logger.level for logger in loggers]
    handlers, last = logging.root.handlers[:], logging.lastResort
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    logging.root.handlers[:], logging.lastResort = handlers, last


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rabbitmq",
        metavar="VERSION",
        help="run the tests that need a broker, and no others, on a version that .ci/broker brings",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("rabbitmq"):
        others = [item for item in items if not _needs_broker(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _needs_broker(item)]


def _needs_broker(item: pytest.Item) -> bool:
    assert isinstance(item, pytest.Function)
    place = item.callspec.params.get("place") if hasattr(item, "callspec") else None
    return "broker" in item.fixturenames or place == "rabbitmq"


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """A private node, one for the whole run, with a TLS listener too."""
    version = pytestconfig.getoption("rabbitmq")
    named = None if version else os.environ.get("CALLBOARD_TEST_AMQP")
    if binaries(version) is None and not named:
        if os.environ.get("CI"):
            pytest.fail(missing(version))
        pytest.skip(missing(version))
    found = binaries(version) is not None
    node = Broker(tls=True, version=version) if found else ForeignBroker(str(named))
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
def own_broker(broker: Broker) -> Broker:
    """A node that may be stopped, killed and configured."""
    if isinstance(broker, ForeignBroker):
        pytest.skip("a broker named by CALLBOARD_TEST_AMQP is not ours to break")
    return broker


@pytest.fixture
def vhost(broker: Broker) -> Iterator[str]:
    """A fresh vhost."""
    name = broker.add_vhost()
    yield name
    broker.delete_vhost(name)


@pytest.fixture
def admin(broker: Broker, vhost: str) -> Iterator[Admin]:
    """Another client of the same vhost."""
    admin = Admin(broker, vhost)
    yield admin
    with contextlib.suppress(AMQPError):  # the test may have ended it
        admin.connection.close()


@pytest.fixture(scope="module")
def hosts() -> Iterator[Network]:
    """A switch to put hosts on."""
    with switch() as network:
        yield network
