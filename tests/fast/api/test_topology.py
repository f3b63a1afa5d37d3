"""What a route declares: typed, checked where it is written, warned of where it loses messages."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from actors import (
    Actions,
    App,
    Binding,
    ConfigurationError,
    Events,
    Exchange,
    Options,
    Queue,
    Retry,
)
from actors.connectors.rabbitmq.queues.topology import Topology
from actors.plan.build import build_plan, check_app
from actors.plan.settings import Settings

AMQP = Settings(connections=("amqp://localhost/",))


def app_with(*queues: str | Queue, **options: Any) -> App:
    app = App()
    app.route(queues, options=options)(handle)
    return app


def handle(messages: list[Any]) -> None:
    """Nothing."""


def test_a_declared_queue_stands_where_its_name_does() -> None:
    app = app_with(Queue("orders", quorum=True), "plain")
    (route,) = build_plan(app, AMQP).pipelines[0].routes
    assert (route.name, route.queues) == ("orders", ("orders", "plain"))


@pytest.mark.parametrize(
    ("milliseconds", "options", "warned"),
    [
        (3_600_000, {"timeout": 1800}, False),
        (60_000, {"timeout": 59}, False),
        (60_000, {"timeout": 60}, True),
        (3_600_000, {"bulk_flush_interval": 1800, "bulk_size": 2}, False),
        (3_600_000, {"bulk_flush_interval": 1801}, False),
        (3_600_000, {"bulk_flush_interval": 1801, "bulk_size": 2}, True),
        (86_400_000, {"order_by": "routing_key"}, False),
        (60_000, {"order_by": "routing_key", "on_exception": Retry(attempts=8)}, True),
        (60_000, {"order_by": "routing_key", "on_exception": Retry(attempts=5)}, False),
        (0, {}, False),
    ],
)
def test_the_consumer_timeout_of_a_declared_queue_counts(
    milliseconds: int, options: dict[str, Any], warned: bool
) -> None:
    queue = Queue("q", arguments={"x-consumer-timeout": milliseconds})
    app = app_with(queue, **{"timeout": 10.0, "bulk_flush_interval": 1.0, **options})
    assert bool(check_app(app, AMQP)) is warned
    (pipeline,) = build_plan(app, AMQP).pipelines
    told = {"q": milliseconds / 1000} if milliseconds else {}
    assert Topology(pipeline.topology, pipeline.retries).patiences == told


def test_declarations_travel_in_the_order_in_which_they_are_made() -> None:
    events = Exchange("events", "topic")
    queue = Queue(
        "orders",
        quorum=True,
        delivery_limit=5,
        dead_letter_exchange=Exchange("graveyard", "fanout"),
        bindings=[Binding(events, "order.*"), Binding("known")],
        arguments={"x-max-length": 10},
    )
    ((name, declared),) = build_plan(app_with(queue), AMQP).pipelines[0].topology
    assert name == "orders"
    assert json.loads(declared) == [
        ["exchange_declare", {
            "exchange": "graveyard", "exchange_type": "fanout", "durable": True, "arguments": {},
        }],
        ["exchange_declare", {
            "exchange": "events", "exchange_type": "topic", "durable": True, "arguments": {},
        }],
        ["queue_declare", {"queue": "orders", "durable": True, "arguments": {
            "x-queue-type": "quorum", "x-delivery-limit": 5,
            "x-dead-letter-exchange": "graveyard", "x-max-length": 10,
        }}],
        ["queue_bind", {
            "queue": "orders", "exchange": "events", "routing_key": "order.*", "arguments": {},
        }],
        ["queue_bind", {
            "queue": "orders", "exchange": "known", "routing_key": "", "arguments": {},
        }],
    ]  # fmt: skip


def test_a_mistake_is_told_where_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match="unknown queue setting 'durabel'; valid: name"):
        Queue("orders", durabel=True)
    with pytest.raises(ConfigurationError, match=r"queue setting delivery_limit: .* not 0"):
        Queue("orders", delivery_limit=0)
    with pytest.raises(ConfigurationError, match="exchange setting name"):
        Exchange("")


@pytest.mark.parametrize(
    ("queue", "warned"),
    [
        (Queue("q", quorum=True, delivery_limit=3), True),
        (Queue("q", arguments={"x-queue-type": "quorum", "x-delivery-limit": 3}), True),
        (Queue("q", quorum=True, delivery_limit=3, dead_letter_exchange="graveyard"), False),
        (Queue("q", quorum=True), False),
    ],
)
def test_a_delivery_limit_without_a_dead_letter_exchange_is_warned_of_at_start(
    queue: Queue, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "actors"):
        build_plan(app_with(queue), AMQP)
    assert ("q has a delivery limit and no dead-letter exchange" in caplog.text) is warned


def test_a_reject_that_leads_nowhere_is_warned_of_by_queue() -> None:
    queues = ("a", Queue("b"), Queue("c", dead_letter_exchange="graveyard"))
    for options in ({Events.ON_EXCEPTION: Actions.REJECT}, {Events.ON_SUCCESS: Actions.REJECT}):
        (warning,) = check_app(app_with(*queues, **options), AMQP)
        assert "REJECT drops messages of a, b unless" in warning
    assert check_app(app_with(queues[2], **{Events.ON_EXCEPTION: Actions.REJECT}), AMQP) == []
    assert check_app(app_with(*queues), AMQP) == []


def test_a_spool_declares_nothing_and_says_so() -> None:
    app = app_with(Queue("q", quorum=True), **{Options.BULK_SIZE: 2})
    (warning,) = check_app(app, Settings(connections=("spool:",)))
    assert "q is declared on RabbitMQ only" in warning


@pytest.mark.parametrize("type", ["direct", "fanout", "topic", "headers", "x-delayed-message"])
def test_an_exchange_is_of_a_type_that_brokers_have_or_of_a_plugins(type: str) -> None:
    assert Exchange("shop", type).type == type


@pytest.mark.parametrize("type", ["topci", "Topic", "", "delayed"])
def test_a_type_of_exchange_that_nobody_has_is_refused_with_those_that_are(type: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Exchange("shop", type)
    assert str(caught.value) == (
        "exchange setting type: must be one of direct, fanout, topic, headers, or a plugin's,"
        f" which begins with x-, not {type!r}"
    )
