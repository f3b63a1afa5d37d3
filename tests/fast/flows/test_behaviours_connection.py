"""What async-worker's tests prove of connections, under the same numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors import Actions, AMQPConnection, App, InvalidConnection, InvalidRoute
from actors.plan.build import build_plan
from actors.testing import InMemorySystem
from tests.support.away import AwaySystem


async def handler(messages: Any) -> None: ...


def two_queues() -> App:
    app = App(host="127.0.0.1", user="guest", password="guest", prefetch_count=128)
    app.route(["a", "b"])(handler)
    return app


def test_both_queues_are_consumed_again_where_their_channels_close() -> None:
    """B33"""
    with InMemorySystem(two_queues()) as system:
        system.world.lose_queue("a", "the broker closed it")
        system.world.lose_queue("b", "the broker closed it")
        system.run_until_idle()
        sent = system.deliver("a", [1]) + system.deliver("b", [2])
        system.advance(60)
        assert [one.actions for one in sent] == [[Actions.ACK]] * 2


def test_both_queues_are_consumed_again_where_the_connection_is_lost() -> None:
    """B33"""
    with InMemorySystem(two_queues()) as system:
        system.disconnect()
        sent = system.deliver("a", [1]) + system.deliver("b", [2])
        system.advance(60)
        assert [one.actions for one in sent] == [[Actions.ACK]] * 2


def test_a_connection_that_cannot_be_made_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """B35, B36"""
    with AwaySystem(two_queues()) as system:
        (sent,) = system.deliver("a", [1])
        assert sent.actions == []
        told = [record for record in caplog.records if "nobody answers" in record.message]
        assert len(told) == 1
        assert told[0].message.startswith("connection rabbitmq")
        system.world.reachable = True
        system.advance(60)
        assert sent.actions == [Actions.ACK]


def connections(*names: str) -> App:
    made = [AMQPConnection(hostname=f"{name}.example", name=name) for name in names]
    return App(connections=made)


def test_a_route_that_names_none_of_several_connections_is_an_error() -> None:
    """B42"""
    app = connections("one", "two")
    app.route(["queue"])(handler)
    with pytest.raises(InvalidRoute, match="route queue: several connections"):
        build_plan(app)


def test_a_route_without_any_connection_is_an_error() -> None:
    """B42"""
    app = App()
    app.route(["queue"])(handler)
    with pytest.raises(InvalidConnection, match="no connection is named"):
        build_plan(app)


def test_a_route_that_names_an_unknown_connection_is_an_error() -> None:
    """B42"""
    app = connections("one", "two")
    app.route(["queue"], connection="three")(handler)
    with pytest.raises(InvalidConnection, match="connection 'three' does not exist"):
        build_plan(app)


def test_the_slash_of_a_vhost_is_kept() -> None:
    """B43"""
    app = connections("one")
    app.route(["queue"], vhost="/fluentd")(handler)
    (pipeline,) = build_plan(app).pipelines
    assert json.loads(pipeline.settings)["vhost"] == "/fluentd"
