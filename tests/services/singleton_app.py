"""Timers that tick once over all replicas, and callbacks for a broker that is away."""

from __future__ import annotations

import asyncio
import json
import os

from actors import AMQPConnection, App, Options
from tests.services.apps import RECORD

#: One for all replicas.
SHARED = os.environ.get("TICKS", RECORD)


def note(**what: object) -> None:
    record = os.open(SHARED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(record, f"{json.dumps(what)}\n".encode())
    os.close(record)


async def failed(error: Exception, retries: int) -> None:
    await asyncio.sleep(0)
    note(error=type(error).__name__, text=str(error), retries=retries, pid=os.getpid())


app = App(connections=[AMQPConnection(name="main", host="nowhere.invalid")])


@app.run_every(0.2, options={Options.SINGLETON: True})
async def tick(app: App) -> None:
    note(n=os.getpid())


@app.route(["work"])
def work(messages: list[object]) -> None:
    """Nothing."""


calling = App(
    connections=[
        AMQPConnection(name="main", host="nowhere.invalid", connection_fail_callback=failed)
    ]
)
calling.route(["work"])(work)
