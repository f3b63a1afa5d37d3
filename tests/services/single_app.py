"""Apps on a queue with a single active consumer: of others, and their own."""

from __future__ import annotations

import os
import time
from typing import Any

from actors import App, Message, Options, Queue
from tests.services.apps import GATE, note

SINGLE = {"x-single-active-consumer": True}
OPTIONS = {Options.BULK_SIZE: 1, Options.TIMEOUT: 60.0}


def work(messages: list[Message[Any]]) -> None:
    """Waits as long as the gate exists; what is to wait comes back after an hour."""
    note(messages)
    while os.path.exists(GATE):
        time.sleep(0.01)
    for message in messages:
        if message.body.get("do") == "wait":
            message.reject(delay=3600.0)


own = App()
own.route([Queue("work", arguments=SINGLE)], options=OPTIONS)(work)

others = App()
others.route(["work"], options=OPTIONS)(work)
