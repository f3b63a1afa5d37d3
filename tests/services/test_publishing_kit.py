"""What handlers put is on the test kit's record, and goes on to the routes that serve it."""

from __future__ import annotations

from typing import Any

from actors import Actions, AMQPConnection, App, Message, SpoolConnection
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


def test_a_put_with_a_delay_is_handled_when_it_is_due_and_has_the_id_that_it_returned() -> None:
    later = App(connections=[SpoolConnection()])
    ids: list[str] = []
    at: list[float] = []

    @later.route(["now"])
    def postpone(messages: list[Message[Any]]) -> None:
        ids.append(later.connection("spool").put_sync("then", 1, delay=60, headers={"n": 2}))

    @later.route(["then"])
    async def due(messages: list[Message[Any]]) -> None:
        (message,) = messages
        at.append(system.stage.now)
        ids.append(str(message.id))
        assert message.headers == {"n": 2}

    with InMemorySystem(later) as system:
        system.deliver("now", [0])
        assert not at
        system.advance(60.0)
        assert len(at) == 1
        assert ids[0] == ids[1]
