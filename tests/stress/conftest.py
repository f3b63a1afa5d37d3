"""The fixtures for whole systems, in this tier too, and a bad network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.conftest import own_rabbitmq, place, rabbitmq, run, spool, stage_vhost
from tests.stress.proxy import Proxy
from tests.support.broker import Broker

__all__ = ["own_rabbitmq", "place", "proxy", "rabbitmq", "run", "spool", "stage_vhost"]


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    """Between a worker and the broker."""
    proxy = Proxy(broker.port)
    yield proxy
    proxy.close()
