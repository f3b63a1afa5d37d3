"""Counts handled messages over the processes of a worker, at a microsecond each.

Only the standard library: the peers count with it in environments of their own.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

_SLOT = struct.Struct("qdd")  # count, time of the first, time of the last

DIRECTORY = "TALLY_DIRECTORY"


class Tally:
    """One process's count, in a file that is mapped into memory."""

    def __init__(self) -> None:
        self._pid = 0
        self._count = 0
        self._first = 0.0

    def hit(self, count: int = 1) -> None:
        """So many messages were handled now."""
        if self._pid != os.getpid():
            self._open()
        now = time.monotonic()
        self._first = self._first or now
        self._count += count
        _SLOT.pack_into(self._map, 0, self._count, self._first, now)

    def _open(self) -> None:
        self._pid, self._count, self._first = os.getpid(), 0, 0.0
        path = Path(os.environ[DIRECTORY]) / str(self._pid)
        path.write_bytes(bytes(_SLOT.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SLOT.size)


def total(directory: Path) -> tuple[int, float]:
    """Messages handled so far, and seconds from the first to the last."""
    slots = [_SLOT.unpack(path.read_bytes()) for path in directory.iterdir()]
    slots = [slot for slot in slots if slot[0]]
    if not slots:
        return 0, 0.0
    first, last = min(slot[1] for slot in slots), max(slot[2] for slot in slots)
    return sum(slot[0] for slot in slots), last - first
