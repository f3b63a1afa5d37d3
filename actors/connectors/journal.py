"""The journal of the bulks that handlers hold: a file that outlives a worker killed as a whole.

Each message to a handler is written into a slot of the file, and the slot is emptied once all of
it is answered. Nothing is synced: what was written survives every death but that of the machine,
for which no message is to blame. Whoever opens the file after a worker that was killed finds what
it held.
"""

from __future__ import annotations

import fcntl
import json
import os
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from struct import Struct, error
from typing import Any

from actors.api.connector import connector_of
from actors.log import own_logger
from actors.logic.bulks.bulk import Piece
from actors.logic.bulks.deaths import BEGINNING, Deaths, identity, inherited
from actors.logic.consuming.frames import Delivery
from actors.plan.plan import PipelinePlan

SLOT_SIZE = 2 * 1024 * 1024  #: bytes of a slot; what finds no room is not remembered
SLOT_COUNT = 256
_WHOLE_MAX = 4096  # bytes of a delivery; of a longer one only the beginning is written
_PAST_SIZE = 64 * 1024  # bytes for the deaths of messages in workers before
_PAST_MAX = 500  # messages whose deaths are kept

_LENGTH = Struct("<I")
_PIECE = Struct("<III")  # bytes of ends, base, bytes of deliveries

_ITEM = array("I").itemsize

logger = own_logger("actors.batcher")


class NoJournal:
    """Remembers nothing: for what is played in memory, where no worker is killed."""

    def __init__(self, plan: PipelinePlan | None = None) -> None:
        self.deaths: dict[bytes, Deaths] = {}  #: of messages known from killed workers
        self.suspects: set[bytes] = set()  #: held by the worker that was killed last

    def fileno(self) -> int:
        return -1

    def deadline(self) -> float | None:
        return None

    def turn(self, now: float) -> list[Any]:
        return []

    def close(self) -> None:
        """Let go of the file."""

    def record(self, bulks: Collection[int], pieces: Sequence[Piece]) -> None:
        """A message with bulks of these numbers goes to a handler."""

    def release(self, bulks: Iterable[int]) -> None:
        """These are in nobody's hand any more: answered, or their handler is dead."""

    def forget(self, message: bytes) -> None:
        """A message is settled: no death counts against it any more."""


class BulkJournal(NoJournal):
    """The bulks that a pipeline's handlers hold; nothing is remembered where the file cannot be
    used."""

    def __init__(self, plan: PipelinePlan) -> None:
        super().__init__()
        self._file = -1
        self._free = [*range(SLOT_COUNT)]  # the last one used is the next: its pages are there
        self._slots: dict[int, int] = {}  # by number of a bulk
        self._left: dict[int, int] = {}  # bulks in hand, by slot
        if not connector_of(plan.kind).frames or not plan.state_dir:
            return  # a spool counts on disk, a stream gives nothing back
        try:
            self._open(Path(plan.state_dir), plan)
        except OSError as error:
            self.close()
            logger.warning(
                "%s: a message that kills whole workers cannot be found: %s", plan.name, error
            )

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # ── while it works ────────────────────────────────────────────────────────

    def record(self, bulks: Collection[int], pieces: Sequence[Piece]) -> None:
        if self._file < 0 or not self._free or not self._slots.keys().isdisjoint(bulks):
            return  # or it goes out again, and is written already
        content = _packed(pieces)
        if len(content) > SLOT_SIZE:
            return
        slot = self._free.pop()
        try:
            os.pwrite(self._file, content, _PAST_SIZE + slot * SLOT_SIZE)
        except OSError:  # a full disk stops no work
            self._empty(slot)
            return
        self._slots.update(dict.fromkeys(bulks, slot))
        self._left[slot] = len(bulks)

    def release(self, bulks: Iterable[int]) -> None:
        for number in bulks if self._slots else ():
            slot = self._slots.pop(number, None)
            if slot is not None:
                self._left[slot] -= 1
                if not self._left[slot]:
                    del self._left[slot]
                    self._empty(slot)

    def forget(self, message: bytes) -> None:
        self.suspects.discard(message)
        if self.deaths.pop(message, None) is not None:
            self._write_past()

    def _empty(self, slot: int) -> None:
        self._free.append(slot)
        with suppress(OSError):
            os.pwrite(self._file, bytes(_LENGTH.size), _PAST_SIZE + slot * SLOT_SIZE)

    # ── what the last worker left ─────────────────────────────────────────────

    def _open(self, directory: Path, plan: PipelinePlan) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        name = f"hands-{plan.app}-{plan.name}".replace("/", "_").replace(":", "-")
        for number in range(64):  # workers of one app on one host have one each
            path = directory / (f"{name}-{number}" if number else name)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            break
        else:
            raise OSError(f"{path}: every such file is in use")
        self._file = file
        life, deaths = self._read_past()
        held = [message for slot in range(SLOT_COUNT) for message in self._read(slot)]
        if life == _life():
            held = []  # its batcher alone was replaced: the supervisors saw to that
        self.deaths, self.suspects = inherited(held, deaths)
        self._write_past()
        os.ftruncate(file, _PAST_SIZE)  # every slot is empty

    def _read(self, slot: int) -> Iterator[bytes]:
        """The identities of what a slot holds."""
        content = self._content(_PAST_SIZE + slot * SLOT_SIZE, SLOT_SIZE)
        try:
            yield from _unpacked(content)
        except (ValueError, IndexError, error):
            logger.warning("a part of what a killed worker held cannot be read")

    def _content(self, start: int, most: int) -> bytes:
        head = os.pread(self._file, _LENGTH.size, start)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
        return os.pread(self._file, min(length, most - _LENGTH.size), start + _LENGTH.size)

    def _read_past(self) -> tuple[str, dict[bytes, Deaths]]:
        try:
            past = json.loads(self._content(0, _PAST_SIZE) or b"{}")
            deaths = {bytes.fromhex(key): Deaths(*counts) for key, counts in past["deaths"].items()}
            return str(past["life"]), deaths
        except (ValueError, KeyError, TypeError, AttributeError):
            return "", {}

    def _write_past(self) -> None:
        recent = list(self.deaths.items())[-_PAST_MAX:]
        told = {message.hex(): (deaths.all, deaths.alone) for message, deaths in recent}
        content = json.dumps({"life": _life(), "deaths": told}).encode()
        with suppress(OSError):
            os.pwrite(self._file, _LENGTH.pack(len(content)) + content, 0)


def _packed(pieces: Sequence[Piece]) -> bytes:
    """The content of a slot: pieces as they are, of large deliveries only the beginning, which
    identifies them."""
    parts = [b""]
    for _, _, _, blob, ends, base in pieces:
        if len(blob) > _WHOLE_MAX * (len(ends) // _ITEM):
            heads = [Delivery(raw).head(BEGINNING) for raw in _cut(blob, ends, base)]
            blob, ends, base = b"".join(heads), _ends(heads), 0
        parts += (_PIECE.pack(len(ends), base, len(blob)), ends, blob)
    parts[0] = _LENGTH.pack(sum(map(len, parts)))
    return b"".join(parts)


def _unpacked(content: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(content):
        size, base, length = _PIECE.unpack_from(content, position)
        start = position + _PIECE.size + size
        ends = content[start - size : start]
        yield from map(identity, _cut(content[start : start + length], ends, base))
        position = start + length


def _ends(parts: Sequence[bytes]) -> bytes:
    return array("I", accumulate(map(len, parts))).tobytes()


def _cut(blob: bytes, ends: bytes, base: int) -> Iterator[memoryview]:
    view, begin = memoryview(blob), 0
    for end in array("I", ends):
        yield view[begin : end - base]
        begin = end - base


def _life() -> str:
    """This worker, told from every other: the leader of its session, and when that began."""
    leader = os.getsid(0)
    try:
        stat = Path(f"/proc/{leader}/stat").read_text()
        return f"{leader} {stat.rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return str(leader)
