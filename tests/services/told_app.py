"""An app whose handlers give each message back by one road, and record how it came."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from actors import Actions, App, Events, Options, Retry
from actors.api.message import Message

Record = Callable[[Message[Any]], None]


def give_back(road: str, message: Message[Any]) -> None:
    match road:
        case "snooze":
            message.snooze(0.2)
        case "snooze for a minute":
            message.snooze(55.0)
        case "snooze for long":
            message.snooze(90.0)  # for so long it waits outside its queue
        case "reject":
            message.reject()
        case "reject for a while":
            message.reject(delay=0.2)
        case "reject for long":
            message.reject(delay=30.0)
        case "one for long":
            message.reject(delay=30.0 if message.body["n"] == 1 else None)
        case "raise":
            raise ValueError("as it is asked to")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(60.0)


def make(app: App, road: str, times: int, record: Record, order_by: str, table: str) -> App:
    """The first `times` hand-outs go the road, the next is acknowledged."""
    left = {"times": times}

    def handle(messages: list[Message[Any]]) -> None:
        for message in messages:
            record(message)
        left["times"] -= 1
        if left["times"] >= 0 and (road != "die" or not messages[0].attempts):
            for message in messages:
                give_back(road, message)

    on_exception: Any = {"requeue": Actions.REQUEUE, "retry": Retry(first=0.2, factor=1.0)}
    options: dict[str, Any] = {
        Options.BULK_SIZE: 2,
        Options.BULK_FLUSH_INTERVAL: 0.1,
        Options.ORDER_BY: order_by,
        Options.MAX_CRASHES: 9,
        Events.ON_EXCEPTION: on_exception[table or "retry"],
    }
    app.route(["work"], options=options)(handle)
    return app


def to_file(message: Message[Any]) -> None:
    line = {"n": message.body["n"], "told": message.redelivered, "attempts": message.attempts}
    with open(os.environ["RECORD"], "a") as file:
        file.write(json.dumps(line) + "\n")


app = make(
    App(),
    os.environ.get("ROAD", ""),
    int(os.environ.get("TIMES", "3")),
    to_file,
    os.environ.get("ORDER_BY", ""),
    os.environ.get("TABLE", ""),
)
