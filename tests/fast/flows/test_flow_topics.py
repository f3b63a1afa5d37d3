"""Topics in the test kit: no broker, the same code."""

from __future__ import annotations

import asyncio

import pytest

from actors import AMQPConnection, App, InvalidArguments, NotSupported, SpoolConnection
from actors.testing import InMemorySystem


def test_a_task_publishes_and_a_subscriber_hears_it_in_order() -> None:
    app = App(connections=[AMQPConnection(host="nowhere")])
    news = app.topic("news")

    @app.task("emit")
    async def emit(text: str) -> str:
        return await news.publish(text)

    with InMemorySystem(app) as system, news.subscribe_sync(wait=0.01) as events:
        system.call(emit, "one")
        last = system.call(emit, "two")
        assert [event.data for event in events] == ["one", "two"]
        system.call(emit, "three")

        async def late() -> object:
            async with news.subscribe(since=last) as missed:
                return (await anext(missed)).data

        assert asyncio.run(late()) == "three"


def test_what_is_no_json_and_a_connection_without_topics_are_refused() -> None:
    app = App(connections=[SpoolConnection("/nowhere/spool.db")])
    with pytest.raises(NotSupported, match=r"no connection of the app takes events \(spool is"):
        app.topic("news").publish_sync(1)
    other = App(connections=[AMQPConnection(host="nowhere")])
    other.task("nothing")(lambda: None)
    with InMemorySystem(other), pytest.raises(InvalidArguments, match="topic news: no JSON"):
        other.topic("news").publish_sync(object())
    with pytest.raises(ValueError, match="is 1 to 128 of the characters"):
        app.topic("a b")
