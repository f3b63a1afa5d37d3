"""What every worker does with its messages, and how they are counted: a microsecond a call.

Only the standard library: peers import it in environments of their own.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.setting import Setting, number_of

DIRECTORY = "BENCHMARK_TALLY"  #: variable: where processes count
_SLOT = struct.Struct("qdd")  # count, when the first call began, when the last one ended
_DELAY = struct.Struct("dd")  # when it was sent, seconds until the handler had it


class Job:
    """The handler's work in the scene that the environment names.

    `body` gets the bytes of what the worker calls a message.
    """

    def __init__(self, body: Callable[[Any], bytes | str] = lambda message: message) -> None:
        self.setting = Setting.read_environment()
        self._body = body
        self._tally = Tally()
        self._plain = not (self.setting.read or self.setting.cpu or self.setting.rate)
        self._room = asyncio.Semaphore(self.setting.calls or 1)
        self._requeued: set[int] = set()

    def run(self, messages: Sequence[Any]) -> None:
        self._tally.begin()
        if not self._plain:
            for message in messages:
                self._work(message)
        self._tally.hit(len(messages))

    async def arun(self, messages: Sequence[Any]) -> None:
        """The same for an async handler; at most `calls` of them wait at once."""
        if not self.setting.wait:
            self.run(messages)
            return
        async with self._room:
            self._tally.begin()
            await asyncio.sleep(self.setting.wait)
            self.run(messages)

    def outcome(self, message: Any) -> str:
        """ "ack", "reject" or, the first time only, "requeue"."""
        if not self.setting.outcomes:
            return "ack"
        number = number_of(self._body(message))
        if number % 20 == 0:
            return "reject"
        if number % 20 == 1 and number not in self._requeued:
            self._requeued.add(number)
            return "requeue"
        return "ack"

    def _work(self, message: Any) -> None:
        body = self._body(message)
        if self.setting.rate:
            self._tally.note(number_of(body) / 1e9)
        if self.setting.cpu:
            until = time.thread_time() + self.setting.cpu
            while time.thread_time() < until:
                pass


class Tally:
    """One process's count, in a file that is mapped into memory."""

    def __init__(self) -> None:
        self._pid = 0
        self._count = 0
        self._first = 0.0
        self._lock = threading.Lock()  # Dramatiq calls from eight threads at once

    def begin(self) -> None:
        """The handler is called."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._open()
        self._first = self._first or time.monotonic()

    def hit(self, count: int) -> None:
        """So many messages are done with."""
        with self._lock:
            self._count += count
            _SLOT.pack_into(self._map, 0, self._count, self._first, time.monotonic())

    def note(self, sent: float) -> None:
        """A message that was sent then, by the monotonic clock, is here."""
        self._delays.write(_DELAY.pack(sent, time.monotonic() - sent))

    def _open(self) -> None:
        pid, self._count, self._first = os.getpid(), 0, 0.0
        directory = Path(os.environ[DIRECTORY])
        self._delays = (directory / f"{pid}.delays").open("wb", buffering=0)
        path = directory / f"{pid}.count"
        path.write_bytes(bytes(_SLOT.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SLOT.size)
        self._pid = pid  # last: until then other threads wait


def total(directory: Path) -> tuple[int, float, float]:
    """Messages done so far, when the first call began and when the last one ended."""
    found = [path.read_bytes() for path in directory.glob("*.count")]
    slots = [_SLOT.unpack(data) for data in found if len(data) == _SLOT.size]
    slots = [slot for slot in slots if slot[0]]
    if not slots:
        return 0, 0.0, 0.0
    return sum(slot[0] for slot in slots), min(s[1] for s in slots), max(s[2] for s in slots)


def delays(directory: Path) -> list[tuple[float, float]]:
    """When each message was sent and how long it took, in the order in which they were sent."""
    files = directory.glob("*.delays")
    return sorted(pair for path in files for pair in _DELAY.iter_unpack(path.read_bytes()))
