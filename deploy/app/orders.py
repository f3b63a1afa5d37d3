"""The app of these examples: put yours in its place."""

from __future__ import annotations

import logging
from typing import Any

from actors import App, Message, Options, Queue
from actors.metrics import Counter

STORED = Counter("orders_stored", "Orders that were stored.")

app = App(version="1")


@app.route(
    [Queue("orders", quorum=True)],  # made where it is missing, replicated where the broker is
    options={Options.BULK_SIZE: 100, Options.BULK_FLUSH_INTERVAL: 1.0},
)
def store(orders: list[Message[dict[str, Any]]]) -> None:
    for order in orders:
        logging.getLogger("orders").info("stored %s", order.body)
    STORED.inc(len(orders))
