"""A message on its way into a queue."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """What is to be put into a queue."""

    body: bytes
    id: str = ""  #: made where it is empty
    headers: Mapping[str, Any] | None = None
    priority: int = 0  #: 0 to 255, higher first
    delay: float = 0.0  #: seconds

    def check(self) -> None:
        """Raises `TypeError` or `ValueError` where it cannot be stored."""
        if not isinstance(self.body, bytes):
            raise TypeError(f"a serialized message must be bytes, not {type(self.body).__name__}")
        if not 0 <= self.priority <= 255:
            raise ValueError(f"priority must be 0 to 255, not {self.priority}")
        if not (self.delay >= 0.0 and math.isfinite(self.delay)):
            raise ValueError(f"delay must be 0 or more seconds, not {self.delay}")
        if len(self.id.encode()) > 255:
            raise ValueError("message_id must be at most 255 bytes")

    def headers_as_json(self) -> bytes:
        """Empty where there are none; raises `TypeError` or `ValueError` where JSON has none."""
        return json.dumps(dict(self.headers), allow_nan=False).encode() if self.headers else b""


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
        return json.dumps(data, allow_nan=False).encode()
    if data is not None:
        raise ValueError("put takes data or serialized_data, not both")
    return given
