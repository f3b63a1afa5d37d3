"""Fixtures for whole systems: where messages come from, and workers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.worker import BrokerPlace, Place, SpoolPlace, Worker

Run = Callable[..., Worker]


@pytest.fixture(params=["spool", "rabbitmq"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each connection in turn, with the queue "work"."""
    if request.param == "spool":
        return SpoolPlace(tmp_path / "spool.db")
    found = BrokerPlace(request.getfixturevalue("broker"), request.getfixturevalue("vhost"))
    found.declare("work")
    return found


@pytest.fixture
def rabbitmq(request: pytest.FixtureRequest) -> BrokerPlace:
    found = BrokerPlace(request.getfixturevalue("broker"), request.getfixturevalue("vhost"))
    found.declare("work")
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
