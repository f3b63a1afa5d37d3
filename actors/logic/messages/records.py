"""One message of a spool as it travels: packed by the connection, cut open by the handler."""

from __future__ import annotations

import json
from struct import Struct, error
from typing import Any

#: Format, priority, bytes of id, queue and headers, attempts, bytes of body, enqueued.
_HEAD = Struct("<BBHHIIId")
_FORMAT = 1

MAX_PRIORITY = 255
_MAX_NAME = 0xFFFF
_MAX_COUNT = 0xFFFFFFFF


class Record:
    """A packed message; each part is cut out when it is asked for.

    `data` is exactly one record, as `pack` made it; raises `ValueError` where it is not.
    """

    __slots__ = ("_body", "_data", "_headers", "_queue", "attempts", "enqueued", "priority")

    attempts: int  #: hand-outs before this one
    enqueued: float  #: wall clock, seconds
    priority: int  #: 0 to 255, higher first

    def __init__(self, data: bytes) -> None:
        if len(data) < _HEAD.size:
            raise ValueError(f"a record of {len(data)} bytes has no head")
        form, self.priority, ids, queues, headers, self.attempts, body, self.enqueued = (
            _HEAD.unpack_from(data)
        )
        self._data = data
        self._queue = _HEAD.size + ids
        self._headers = self._queue + queues
        self._body = self._headers + headers
        if form != _FORMAT or self._body + body != len(data):
            raise ValueError(f"not a record of format {_FORMAT}")

    @property
    def id(self) -> str:
        return self._data[_HEAD.size : self._queue].decode()

    @property
    def queue(self) -> str:
        return self._data[self._queue : self._headers].decode()

    @property
    def headers(self) -> dict[str, Any]:
        """Parsed anew each time: a copy for the asker to keep."""
        headers = self._data[self._headers : self._body]
        return dict(json.loads(headers)) if headers else {}

    @property
    def body(self) -> bytes:
        return self._data[self._body :]


def pack(
    id: str,
    queue: str,
    headers: bytes,
    priority: int,
    enqueued: float,
    attempts: int,
    body: bytes,
) -> bytes:
    """Make a record; `headers` is a JSON object, or empty where there are none.

    Raises `ValueError` for what a record has no room for. The types are not to be trusted:
    a spool's file holds whatever its last writer put there.
    """
    try:
        ids, queues = id.encode(), queue.encode()
        head = _HEAD.pack(
            _FORMAT, priority, len(ids), len(queues), len(headers), attempts, len(body), enqueued
        )
        return b"".join((head, ids, queues, headers, body))
    except (error, TypeError, AttributeError, ValueError):
        values = (id, queue, headers, priority, enqueued, attempts, body)
        raise ValueError(_trouble(*values)) from None


def unpack(data: bytes) -> Record:
    """The record that `data` is; raises `ValueError` where it is none."""
    return Record(data)


def _trouble(
    id: Any, queue: Any, headers: Any, priority: Any, enqueued: Any, attempts: Any, body: Any
) -> str:
    """Names the first part that does not fit into a record."""
    for name, text in (("id", id), ("queue", queue)):
        if not (isinstance(text, str) and len(text.encode("utf-8", "replace")) <= _MAX_NAME):
            return f"{name} is no text of at most {_MAX_NAME:,} bytes"
    for name, number, most in (
        ("priority", priority, MAX_PRIORITY),
        ("attempts", attempts, _MAX_COUNT),
    ):
        if not (isinstance(number, int) and 0 <= number <= most):
            return f"{name} is {_shown(number)}, no whole number from 0 to {most:,}"
    if not isinstance(enqueued, int | float):
        return f"enqueued is {_shown(enqueued)}, no time"
    for name, data in (("headers", headers), ("body", body)):
        if not (isinstance(data, bytes) and len(data) <= _MAX_COUNT):
            return f"{name} is {_shown(data)}, no bytes"
    return "cannot be packed into a record"


def _shown(value: Any) -> str:
    """A value of whatever type, short enough for a log line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
