"""An app whose handlers measure what they do, and say what they see of their environment."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from actors import App, Message, Options
from actors.metrics import Counter, Gauge, Histogram
from tests.services.apps import act, note

SEEN = Counter("seen", "Messages seen.", ["kind"])
OPEN = Gauge("open", "What is open.")
TOOK = Histogram("took_seconds", "Time taken.", buckets=[1.0])

app = App(version="7")


@app.route(["work"], options={Options.BULK_SIZE: 1, Options.CONCURRENCY: 2})
def work(messages: list[Message[Any]]) -> None:
    OPEN.set(1)
    SEEN.labels(kind="good").inc(len(messages))
    systemd = [name for name in os.environ if name.startswith(("NOTIFY_", "WATCHDOG_"))]
    child = subprocess.check_output(["env"], text=True)
    systemd += [line for line in child.splitlines() if line.startswith(("NOTIFY_", "WATCHDOG_"))]
    note(messages, systemd=json.dumps(systemd))
    with TOOK.time():
        for message in messages:
            act(message)
