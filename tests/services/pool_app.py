"""Fifty routes in one pool, `def` and `async def`, one of which dies where a message says so."""

from __future__ import annotations

from actors import App, Options
from tests.services.apps import Messages, act, note

QUEUES = [f"wide-{number}" for number in range(50)]

app = App()


def handle(messages: Messages) -> None:
    for message in messages:
        act(message)
    note(messages)


async def handle_async(messages: Messages) -> None:
    handle(messages)


for number, queue in enumerate(QUEUES):
    options = {Options.POOL: "wide", Options.BULK_SIZE: 8, Options.BULK_FLUSH_INTERVAL: 0.2}
    app.route([queue], options=options)(handle_async if number % 2 else handle)
