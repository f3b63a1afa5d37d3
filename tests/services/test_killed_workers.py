"""A message that kills its whole worker is found, and it alone, on each RabbitMQ."""

from __future__ import annotations

import json
import signal

import pytest

from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Worker, numbers, put, until, until_is

APPS = "tests.services.limits_app"

#: Killed workers until the culprit is convicted at the latest: the default of MAX_CRASHES.
MOST = 3


@pytest.fixture
def place(each_rabbitmq: BrokerPlace) -> BrokerPlace:
    return each_rabbitmq


def dead_lettered(place: BrokerPlace) -> list[tuple[int, str]]:
    return [(json.loads(letter.body)["n"], letter.error) for letter in place.dead("work")]


@pytest.mark.parametrize("kind", ["classic", "quorum"])
@pytest.mark.parametrize("app", ["others", "busy"])
def test_a_message_that_kills_whole_workers_is_convicted_and_it_alone(
    place: BrokerPlace, run: Run, kind: str, app: str
) -> None:
    place.declare("work", **{"x-queue-type": kind})
    place.declare("more")
    put(place, "more", *numbers(range(100, 105)))
    put(place, "work", *numbers(range(10)), {"n": 10, "do": "kill all"}, *numbers(range(11, 40)))
    for _ in range(MOST):
        worker = run(f"{APPS}:{app}", "--connection", place.url)
        assert worker.wait() == -signal.SIGKILL
        assert dead_lettered(place) == []
    worker = run(f"{APPS}:{app}", "--connection", place.url)
    until_is([(10, "actors.errors.HandlerCrashed")], lambda: dead_lettered(place))
    innocent = {*range(40)} - {10}
    until(lambda: innocent <= worker.times().keys(), 20.0, "the innocent are handled")
    until_is(0, lambda: place.ready("work"))
    assert worker.times()[10] == MOST
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert place.ready("work") == 0


def test_what_is_in_hand_when_a_worker_is_killed_from_outside_is_handled_by_the_next(
    place: BrokerPlace, run: Run
) -> None:
    place.declare("work", **{"x-queue-type": "quorum"})
    put(place, "work", *numbers(range(5)), {"n": 5, "do": "hold"}, *numbers(range(6, 10)))
    for _ in range(MOST - 1):
        worker = run(f"{APPS}:others", "--connection", place.url)
        (worker.directory / "record.gate").touch()
        in_hand(worker)
        worker.destroy()
    (worker.directory / "record.gate").unlink()
    worker = run(f"{APPS}:others", "--connection", place.url)
    until(lambda: worker.times().keys() == {*range(10)}, 20.0, "all are handled")
    until_is(0, lambda: place.ready("work"))
    assert dead_lettered(place) == []
    assert worker.times()[5] == MOST


def in_hand(worker: Worker) -> None:
    """Wait until message 5 is handed out once more."""
    before = worker.times()[5]
    until(lambda: worker.times()[5] > before, 20.0, "in hand")
