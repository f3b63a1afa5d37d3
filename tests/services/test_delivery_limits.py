"""A broker's limit of deliveries, on each RabbitMQ: nothing that nobody settled is deleted."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from actors.logic.consuming.limits import rescue_at
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Worker, put, until, until_is
from tests.support.broker import Broker

APPS = "tests.services.limits_app"


@pytest.fixture
def place(each_rabbitmq: BrokerPlace) -> BrokerPlace:
    return each_rabbitmq


def has_default(broker: Broker) -> bool:
    """Whether a quorum queue has a limit that nobody declared."""
    return not broker.evaluate("rabbit_misc:version().").strip('"').startswith("3.")


def quorum(place: BrokerPlace, **arguments: Any) -> None:
    place.declare("work", **{"x-queue-type": "quorum", **arguments})


def dead_lettered(place: BrokerPlace) -> dict[int, tuple[str, str]]:
    """Dead letters by number: error and reason."""
    return {number(letter): (letter.error, letter.reason) for letter in place.dead("work")}


def number(letter: Any) -> int:
    return int(json.loads(letter.body)["n"])


def test_a_queue_of_our_own_has_no_limit(place: BrokerPlace, run: Run) -> None:
    """The 21st return was the end of a message from 4.0 on."""
    worker = run(f"{APPS}:own", "--connection", place.url)
    worker.ready()
    put(place, "work", {"n": 1, "do": "fail"}, {"n": 2})
    until(lambda: worker.times()[1] > 25, 60.0, "more than 25 hand-outs")
    assert worker.times()[2] == 1
    assert place.dead("work") == []
    assert "RabbitMQ deletes" not in worker.output
    worker.signal(signal.SIGTERM)
    worker.wait()
    assert place.ready("work") == 1


def test_a_queue_that_an_older_callboard_declared_goes_on_and_is_rescued_from_its_limit(
    place: BrokerPlace, each_broker: Broker, run: Run
) -> None:
    quorum(place)
    worker = run(f"{APPS}:own", "--connection", place.url)
    worker.ready()
    put(place, "work", {"n": 1, "do": "fail"}, {"n": 2})
    if has_default(each_broker):
        until(lambda: 1 in dead_lettered(place), 60.0, "a dead letter")
        assert worker.times() == Counter({1: 15, 2: 1})
        assert worker.output.count("RabbitMQ deletes a message of queue work") == 1
    else:
        until(lambda: worker.times()[1] > 25, 60.0, "more than 25 hand-outs")
        assert place.dead("work") == []


@pytest.mark.parametrize("app", ["others", "ordered"])
@pytest.mark.parametrize("limit", [1, 2, 3, 20])
def test_what_comes_close_to_a_declared_limit_is_rescued_with_the_reason(
    place: BrokerPlace, run: Run, limit: int, app: str
) -> None:
    if app == "ordered" and limit != 3:
        pytest.skip("what fails on an ordered route waits in the worker: one limit shows it")
    quorum(place, **{"x-delivery-limit": limit})
    put(place, "work", {"n": 1, "do": "hold" if app == "ordered" else "fail"}, {"n": 2})
    for _ in range(rescue_at(limit) if app == "ordered" else 0):
        lose_by_kill(place, run)
    worker = run(f"{APPS}:{app}", "--connection", place.url)
    until(lambda: 1 in dead_lettered(place), 60.0, "a dead letter")
    count = rescue_at(limit)
    reason = f"came back {count} times, and RabbitMQ deletes it after {limit}"
    assert dead_lettered(place)[1] == ("actors.errors.DeliveryLimit", reason)
    until_is(0, lambda: place.ready("work"))
    if app == "others":
        assert worker.times() == Counter({1: count, 2: 1})
    assert f"comes back more than {limit} times" in worker.output


def test_a_dead_letter_exchange_of_the_queues_own_is_left_to_its_owner(
    place: BrokerPlace, run: Run
) -> None:
    place.declare("graveyard")
    exchange = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "graveyard"}
    quorum(place, **{"x-delivery-limit": 3, **exchange})
    put(place, "work", {"n": 1, "do": "fail"})
    worker = run(f"{APPS}:others", "--connection", place.url)
    until_is(1, lambda: place.ready("graveyard"))
    assert (worker.times()[1], place.dead("work")) == (4, [])
    assert "RabbitMQ deletes" not in worker.output


def test_the_limit_of_a_policy_is_told_by_an_option(
    place: BrokerPlace, each_broker: Broker, run: Run
) -> None:
    quorum(place)
    vhost = place.url.rpartition("/")[2]
    each_broker.ctl(
        "set_policy", "-p", vhost, "low", "^work$", '{"delivery-limit": 3}', "--apply-to", "queues"
    )
    put(place, "work", {"n": 1, "do": "fail"}, {"n": 2})
    worker = run(f"{APPS}:by_policy", "--connection", place.url)
    until(lambda: 1 in dead_lettered(place), 60.0, "a dead letter")
    assert worker.times() == Counter({1: 2, 2: 1})


# ── whatever gives back ────────────────────────────────────────────────────────


def hold(place: BrokerPlace, run: Run) -> Worker:
    """A worker with message 1 in hand."""
    worker = run(f"{APPS}:others", "--connection", place.url, "--shutdown-timeout", "0.5")
    gate(worker).touch()
    before = worker.times()[1]
    until(lambda: worker.times()[1] > before, 20.0, "in hand")
    return worker


def gate(worker: Worker) -> Path:
    return worker.directory / "record.gate"


def lose_by_drain(place: BrokerPlace, run: Run) -> None:
    worker = hold(place, run)
    worker.signal(signal.SIGTERM)
    assert worker.wait() in (0, 75)


def lose_by_kill(place: BrokerPlace, run: Run) -> None:
    worker = hold(place, run)
    worker.destroy()


def lose_by_disconnect(place: BrokerPlace, run: Run) -> None:
    worker = hold(place, run)
    place.broker.ctl("close_all_connections", "test")
    worker.destroy()


@pytest.mark.parametrize("limit", [2, 3])
@pytest.mark.parametrize("lose", [lose_by_drain, lose_by_kill, lose_by_disconnect])
def test_whatever_gives_a_message_back_it_is_not_deleted(
    place: BrokerPlace, run: Run, lose: Any, limit: int
) -> None:
    quorum(place, **{"x-delivery-limit": limit})
    put(place, "work", {"n": 1, "do": "hold"})
    for _ in range(rescue_at(limit)):
        lose(place, run)
        until_is(1, lambda: place.ready("work"))
    worker = run(f"{APPS}:others", "--connection", place.url)
    until(lambda: 1 in dead_lettered(place), 20.0, "a dead letter")
    assert worker.times() == Counter({1: rescue_at(limit)})
    until_is(0, lambda: place.ready("work"))
