"""The progress of a stream: the id to resume from, and what a resumed stream tells."""

from __future__ import annotations

import re
from collections import deque

#: Bytes of an id that a server will be asked to resume from.
LONGEST_ID = 4096

# RFC 9110, field-value: no control characters, no space at either end.
_FIELD_VALUE = re.compile(r"[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?")


class Checkpoint:
    """Moves over the contiguous prefix of settled events, and over nothing else.

    What was settled beyond a gap waits for the gap: after a restart the stream is asked
    for everything after `id`, so no event that is still open may lie before it.
    """

    def __init__(self, id: str = "") -> None:
        self.id = id  #: of the last event of the settled prefix
        self._open: deque[str] = deque()
        self._first = 1  #: the number of the first open event
        self._settled: set[int] = set()

    def __len__(self) -> int:
        """Events from the first open one on, those settled beyond it included."""
        return len(self._open)

    def receive(self, id: str) -> int:
        """The next event of the stream has come; its number, counted from 1."""
        self._open.append(id)
        return self._first + len(self._open) - 1

    def settle(self, number: int) -> None:
        """This event needs no more; said twice, it means nothing."""
        if number < self._first:
            return
        self._settled.add(number)
        while self._first in self._settled:
            self._settled.remove(self._first)
            self._first += 1
            self.id = self._open.popleft()


def resumable(id: str) -> bool:
    """Can this id be sent in `Last-Event-ID`?"""
    return len(id.encode()) <= LONGEST_ID and (not id or bool(_FIELD_VALUE.fullmatch(id)))


def gap(asked: str, first: str) -> str:
    """What is odd about the first id of a stream that was asked to resume; "" for nothing.

    Only numbers tell: of other ids nobody knows which one follows.
    """
    if not (asked.isdecimal() and first.isdecimal() and len(asked) < 20 and len(first) < 20):
        return ""
    before, after = int(asked), int(first)
    if after <= before:
        return f"asked for what follows id {asked}, it began again at {first}"
    if after > before + 1:
        return f"asked for what follows id {asked}, it went on at {first}"
    return ""
