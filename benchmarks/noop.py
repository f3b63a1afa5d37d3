"""An app that does nothing with its messages but to count them."""

from __future__ import annotations

import os
from typing import Any

from actors import App, Options
from benchmarks.tally import Tally

app = App()
tally = Tally()


@app.route(
    ["benchmark"],
    options={
        Options.BULK_SIZE: int(os.environ.get("BULK", "256")),
        Options.BULK_FLUSH_INTERVAL: 0.2,
    },
)
def handle(messages: list[Any]) -> None:
    tally.hit(len(messages))
