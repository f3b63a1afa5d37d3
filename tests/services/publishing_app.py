"""Handlers that put messages into the connection that theirs came from."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from actors import AMQPConnection, App, Message, Options, PublishError
from tests.services.apps import note

#: Where the connection really is, says the command line.
connection = AMQPConnection(name="main", host="nowhere.invalid")

app = App(connections=[connection])

SEVERAL = {Options.CONCURRENCY: 2, Options.BULK_SIZE: 8, Options.BULK_FLUSH_INTERVAL: 0.1}


@app.route(["work"], options=SEVERAL)
async def forward(messages: list[Message[Any]]) -> None:
    for message in messages:
        await connection.put("next", data=message.body)
        with suppress(PublishError):  # on a broker
            await app.connection("main").put("nobody", data=0, mandatory=True)


@app.route(["next"], options=SEVERAL)
def record(messages: list[Message[Any]]) -> None:
    note(messages)
    for message in messages:
        app.connection("main").put_sync("last", serialized_data=message.serialized_data)
