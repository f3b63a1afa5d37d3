"""One message of a spool as it travels: packed by the connection, cut open by the handler."""

from __future__ import annotations

import json
from struct import Struct
from typing import Any

#: Format, priority, bytes of id, queue and headers, attempts, bytes of body, enqueued.
_HEAD = Struct("<BBHHIIId")
_FORMAT = 1


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
    """Make a record; `headers` is a JSON object, or empty where there are none."""
    ids, queues = id.encode(), queue.encode()
    head = _HEAD.pack(
        _FORMAT, priority, len(ids), len(queues), len(headers), attempts, len(body), enqueued
    )
    return b"".join((head, ids, queues, headers, body))


def unpack(data: bytes) -> Record:
    """The record that `data` is; raises `ValueError` where it is none."""
    return Record(data)
