"""Apps on quorum queues: of their own, and of others with whatever limit."""

from __future__ import annotations

import os
import time
from typing import Any

from actors import Actions, App, Events, Message, Options, Queue
from tests.integration.apps import GATE, act, note

Messages = list[Message[Any]]


def work(messages: Messages) -> None:
    """Fails at once and without end where the message says so; waits as long as the gate exists."""
    note(messages)
    for message in messages:
        match message.body.get("do"):
            case "fail":
                message.reject(delay=0.01)
            case "hold":
                while os.path.exists(GATE):
                    time.sleep(0.01)
            case _:
                act(message)


OPTIONS = {
    Options.BULK_SIZE: 1,
    Options.TIMEOUT: 60.0,
    Events.ON_EXCEPTION: Actions.REQUEUE,
}

own = App()
own.route([Queue("work", quorum=True)], options=OPTIONS)(work)

others = App()
others.route(["work"], options=OPTIONS)(work)

ordered = App()
ordered.route(["work"], options={**OPTIONS, Options.ORDER_BY: "routing_key"})(work)

by_policy = App()
by_policy.route(["work"], options={**OPTIONS, Options.DELIVERY_LIMIT: 3})(work)
