"""An app that does nothing with its messages but to note when they came."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from actors import App, HandlerActor, Options

app = App()


@app.route(
    ["benchmark"],
    options={
        Options.BULK_SIZE: int(os.environ.get("NOOP_BULK_SIZE", "256")),
        Options.BULK_FLUSH_INTERVAL: 0.2,
    },
)
class Noop(HandlerActor):
    """Counts, and writes what it saw into `NOOP_REPORT` at the end."""

    def on_start(self) -> None:
        self.first = self.last = 0.0
        self.count = 0

    def handle(self, messages: list[Any]) -> None:
        self.last = time.monotonic()
        self.first = self.first or self.last
        self.count += len(messages)

    def on_stop(self) -> None:
        report = {"first": self.first, "last": self.last, "count": self.count}
        Path(os.environ["NOOP_REPORT"]).write_text(json.dumps(report))
