"""Apps for the fault suite: what a handler does, its messages say."""

from __future__ import annotations

import ctypes
import os
import select
from typing import Any

from pydantic import BaseModel

from actors import Actions, App, Events, Message, Options, Retry, SpoolConnection, SSEConnection
from tests.services.apps import BULKS, PACE, act, note

FEW_RETRIES = Retry(attempts=3, first=0.1, cap=0.1)


class Numbered(BaseModel):
    n: int


def typed(messages: list[Message[Numbered]]) -> None:
    """What is not valid never comes here."""
    for message in messages:
        note_number(message.body.n)


def raw(messages: list[Message[Any]]) -> None:
    """Reads neither body nor headers, only bytes."""
    for message in messages:
        note_number(len(message.serialized_data))


def note_number(number: int) -> None:
    with open(os.environ["RECORD"], "a") as record:
        record.write(f'{{"n": {number}, "redelivered": false, "attempts": 0}}\n')


def greedy(messages: list[Message[Any]]) -> None:
    """Takes as many bytes as the message says, used or not, or holds the GIL for seconds."""
    note(messages)
    for message in messages:
        bytearray(message.body.get("bytes", 0))
        b"." * message.body.get("resident", 0)
        ctypes.PyDLL(None).sleep(message.body.get("seconds", 0))
        act(message)


def talkative(messages: list[Message[Any]]) -> None:
    """Raises once, so that every message is worth a traceback in the log."""
    note(messages)
    for message in messages:
        if not message.attempts:
            raise ValueError(f"number {message.body['n']} {'.' * 1000}")


def paced(messages: list[Message[Any]]) -> None:
    note(messages)
    select.select([], [], [], PACE)  # libfaketime, which moves the clock, breaks time.sleep


def events(messages: list[Message[Any]]) -> None:
    for message in messages:
        note_number(message.body["n"])


decoding = App()
decoding.route(["work"], options=BULKS)(typed)

#: Nothing is decoded for a handler that decodes nothing.
bytewise = App()
bytewise.route(["work"], options=BULKS)(raw)

limited = App()
limited.route(
    ["work"],
    options={
        Options.TIMEOUT: 1.0,
        Events.ON_EXCEPTION: {Exception: FEW_RETRIES, MemoryError: Actions.REJECT},
    },
)(greedy)

hungry = App()
hungry.route(["work"], options=BULKS)(greedy)

noisy = App()
noisy.route(["work"], options={Events.ON_EXCEPTION: FEW_RETRIES})(talkative)

#: A token in the query, one in a header.
stream = App(
    connections=[
        SSEConnection(
            os.environ.get("STREAM", "http://127.0.0.1:1/"),
            user="reader",
            password=os.environ.get("SECRET", "none"),
            headers={"X-Token": os.environ.get("SECRET", "none")},
            idle_timeout=2.0,
        )
    ]
)
stream.route(["/events"])(events)

paced_only = App()
paced_only.route(["work"], options=BULKS)(paced)

#: Two spools, so that one can be damaged.
two_spools = App(
    connections=[
        SpoolConnection(os.environ.get(name.upper(), f"/{name}"), name=name)
        for name in ("first", "second")
    ]
)
for name in ("first", "second"):
    two_spools.route([name], connection=name, options=BULKS)(paced)
