"""What handlers put is on the test kit's record, and goes on to the routes that serve it."""

from __future__ import annotations

from typing import Any

from actors import Actions, AMQPConnection, App, Message
from actors.testing import InMemorySystem

connection = AMQPConnection(name="main", host="nowhere.invalid")
app = App(connections=[connection])
handled: list[Any] = []


@app.route(["first"])
async def forward(messages: list[Message[Any]]) -> None:
    for message in messages:
        await connection.put("second", data=message.body, properties={"headers": {"n": 1}})
        await app.connection("main")["other"].put("", data=0, exchange="events")


@app.route(["second"])
def last(messages: list[Message[Any]]) -> None:
    handled.extend((message.body, message.headers) for message in messages)
    connection.put_sync("nobody's", serialized_data=b"raw")


def test_what_handlers_put_is_recorded_and_handled() -> None:
    with InMemorySystem(app) as system:
        (sent,) = system.deliver("first", ["word"])
        assert sent.actions == [Actions.ACK]
        assert handled == [("word", {"n": 1})]
        put = [(one.exchange, one.routing_key, one.body) for one in system.published()]
        assert put == [
            ("", "second", b'"word"'), ("events", "", b"0"), ("", "nobody's", b"raw"),
        ]  # fmt: skip
        assert system.published()[0].actions == [Actions.ACK]
