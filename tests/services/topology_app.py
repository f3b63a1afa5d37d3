"""An app that declares its queue."""

from __future__ import annotations

from typing import Any

from actors import App, Message, Queue
from tests.services.apps import note

app = App()


@app.route([Queue("typed", quorum=True)])
def work(messages: list[Message[Any]]) -> None:
    note(messages)
