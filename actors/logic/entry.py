"""A message on its way into a queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from actors.logic.records import MAX_PRIORITY
from actors.logic.routing import MAX_QUEUE_NAME

MAX_ID = 255  #: bytes, of an AMQP short string
MAX_DELAY = 10 * 365 * 86400  #: seconds; a wall clock that is off by more is no clock


class Entry(NamedTuple):
    """What is to be put into a queue."""

    body: bytes
    id: str = ""  #: made where it is empty
    headers: Mapping[str, Any] | None = None
    priority: int = 0  #: 0 to 255, higher first
    delay: float = 0.0  #: seconds

    def check(self) -> None:
        """Raises `TypeError` or `ValueError` for what no connection can store.

        Types are checked as well as ranges: what a store takes it has to give out again.
        """
        if not isinstance(self.body, bytes):
            raise TypeError(f"a serialized message must be bytes, not {_kind(self.body)}")
        if not isinstance(self.priority, int) or isinstance(self.priority, bool):
            raise TypeError(f"priority must be a whole number, not {_kind(self.priority)}")
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise ValueError(f"priority must be 0 to {MAX_PRIORITY}, not {self.priority}")
        if not isinstance(self.delay, int | float) or isinstance(self.delay, bool):
            raise TypeError(f"delay must be a number of seconds, not {_kind(self.delay)}")
        if not 0 <= self.delay <= MAX_DELAY:  # false for NaN as well
            raise ValueError(f"delay must be 0 to {MAX_DELAY:,} seconds, not {self.delay}")
        if not isinstance(self.id, str):
            raise TypeError(f"message_id must be text, not {_kind(self.id)}")
        if len(self.id.encode()) > MAX_ID:
            raise ValueError(f"message_id must be at most {MAX_ID} bytes")
        if not isinstance(self.headers, Mapping | None):
            raise TypeError(f"headers must be a mapping, not {_kind(self.headers)}")
        for name in self.headers or ():
            if not isinstance(name, str):
                raise TypeError(f"headers must have names of text, not {name!r}")

    def headers_as_json(self) -> bytes:
        """Empty where there are none; raises `TypeError` or `ValueError` where JSON has none."""
        try:
            return json.dumps(dict(self.headers), allow_nan=False).encode() if self.headers else b""
        except RecursionError:
            raise ValueError("headers must not be nested as deep as these") from None


def check_queue(queue: str, argument: str = "queue") -> None:
    """Raises `TypeError` or `ValueError` for what cannot be the name of a queue."""
    if not isinstance(queue, str):
        raise TypeError(f"{argument} must be the name of a queue, not {_kind(queue)}")
    if not 0 < len(queue.encode()) <= MAX_QUEUE_NAME:
        raise ValueError(
            f"{argument} must be the name of a queue, of 1 to {MAX_QUEUE_NAME} bytes: {queue!r}"
        )


def _kind(value: object) -> str:
    return type(value).__name__


def entry_of(properties: Mapping[str, Any], body: bytes = b"") -> Entry:
    """The message that has these of AMQP's properties; a spool has no place for others."""
    id, priority = properties.get("message_id"), properties.get("priority")
    return Entry(
        body,
        "" if id is None else id,
        properties.get("headers"),
        0 if priority is None else priority,
    )


@dataclass(slots=True, eq=False)
class Outgoing:
    """A message on its way to a broker or a spool, and what became of it."""

    routing_key: str
    body: bytes
    properties: Any  #: as its store wants them
    exchange: str = ""  #: empty: `routing_key` is the name of a queue
    mandatory: bool = False  #: where no queue takes it, it counts as refused
    outcome: str | None = None  #: None: not known; empty: stored; otherwise why it is not


def serialized(data: Any, given: bytes | None) -> bytes:
    """The body of a message: `data` as JSON, or what was `given` as it is.

    Raises `ValueError` for both or neither, `TypeError` for what JSON cannot say.
    """
    if given is None:
        if data is None:
            raise ValueError("put needs data or serialized_data; for JSON's null, say b'null'")
        try:
            return json.dumps(data, allow_nan=False).encode()
        except RecursionError:
            raise ValueError("data must not be nested as deep as this") from None
    if data is not None:
        raise ValueError("put takes data or serialized_data, not both")
    return given
