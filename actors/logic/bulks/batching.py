"""Grouping deliveries into bulks: by count, bytes and age, without looking into them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from actors.logic.bulks.bulk import Chunk, Draft, Slice
from actors.logic.settlement.unacked import Old, is_old


class Batching:
    """The open bulks of one route.

    What comes for the first time shares bulks of full size. What failed comes back in
    smaller ones, a quarter for each attempt, so that its neighbours are cleared soon; what
    was given back by a mark of its own harmed no neighbour, and comes back among all others.
    The last attempt of a message is always made alone.
    """

    def __init__(
        self, bulk_size: int, bulk_bytes: int, interval: float, last_alone: int = 0
    ) -> None:
        self._bulk_size = bulk_size
        self._bulk_bytes = bulk_bytes
        self._interval = interval  #: seconds
        self.last_alone = last_alone  #: the hand-out that is always made alone; 0: none
        self._buffers: dict[int, BatchBuffer] = {}  # by size of bulk, the smallest first

    @property
    def size(self) -> int:
        """Deliveries in the queue."""
        return sum(buffer.size for buffer in self._buffers.values())

    def add(self, chunk: Chunk, now: float) -> None:
        """Put a chunk in the queue."""
        for part in runs(chunk):
            attempts = chunk.attempts.get(part.start, 0)
            cleared = part.start in chunk.cleared
            cap = bulk_cap(self._bulk_size, attempts, self.last_alone, cleared=cleared)
            self._buffer(cap).add(part, now)

    def take(self, now: float, flush: bool = False) -> Draft | None:
        """The next bulk that is due: full, old enough, or whatever there is on `flush`."""
        for buffer in self._buffers.values():
            if buffer.size and (flush or buffer.full() or now >= buffer.oldest + self._interval):
                return buffer.cut()
        return None

    def ready(self, now: float) -> bool:
        """Whether a bulk is full or old enough."""
        for buffer in self._buffers.values():  # loops, for every route is asked at every turn
            if buffer.size and (buffer.full() or now >= buffer.oldest + self._interval):
                return True
        return False

    def due(self, now: float) -> float | None:
        """When a delivery in the queue will be old enough next."""
        first = None
        for buffer in self._buffers.values():
            if buffer.size and (time := buffer.oldest + self._interval) > now:
                first = time if first is None else min(first, time)
        return first

    def drop(self, queue: str, epoch: int) -> list[Slice]:
        """Take out what came before an epoch of a queue: it will come again."""
        return [part for buffer in self._buffers.values() for part in buffer.drop(queue, epoch)]

    def holds(self, old: Old) -> bool:
        """Whether anything has waited for too long."""
        return any(buffer.holds(old) for buffer in self._buffers.values())

    def recall(self, old: Old) -> list[tuple[Chunk, int, bool]]:
        """Take out what has waited for too long, as (chunk, index, failed)."""
        parts = [part for buffer in self._buffers.values() for part in buffer.recall(old)]
        return [(chunk, index, False) for chunk, index in Draft(parts).deliveries()]

    def withdraw(self, epoch: int, position: int) -> tuple[Chunk, int] | None:
        """Take out one delivery; None: it does not wait here."""
        for buffer in self._buffers.values():
            if found := buffer.withdraw(epoch, position):
                return found
        return None

    def settled(self, part: Slice) -> None:
        """Deliveries have their outcome: of no consequence to the others."""

    def give_back(self, now: float) -> list[tuple[Chunk, int, bool]]:
        """Nothing waits for a failed message."""
        return []

    def _buffer(self, cap: int) -> BatchBuffer:
        if cap not in self._buffers:
            self._buffers[cap] = BatchBuffer(cap, self._bulk_bytes)
            self._buffers = dict(sorted(self._buffers.items()))
        return self._buffers[cap]


class BatchBuffer:
    """Deliveries in the queue for bulks of one size."""

    def __init__(self, cap: int, bulk_bytes: int) -> None:
        self.size = 0
        self.bytes = 0
        self._cap = cap
        self._bulk_bytes = bulk_bytes
        self._parts: deque[tuple[Slice, float]] = deque()

    @property
    def oldest(self) -> float:
        """When the first in the queue came."""
        return self._parts[0][1]

    def full(self) -> bool:
        return self.size >= self._cap or self.bytes >= self._bulk_bytes

    def add(self, part: Slice, now: float) -> None:
        self._parts.append((part, now))
        self.size += part.size
        self.bytes += part.bytes

    def cut(self) -> Draft:
        """One bulk off the head; a delivery larger than a bulk may be travels by itself."""
        parts: list[Slice] = []
        most, room = self._cap, self._bulk_bytes
        while self._parts and most:
            part, came = self._parts[0]
            size = min(most, part.size)
            if part.bytes > room:
                size = min(size, part.fitting(room)) or (0 if parts else 1)
            if size == part.size:
                self._parts.popleft()
            else:
                part, rest = part.split(size)
                self._parts[0] = rest, came
            if not size:
                break
            parts.append(part)
            most -= size
            room -= part.bytes
        self.size -= self._cap - most
        self.bytes -= self._bulk_bytes - room
        return Draft(parts)

    def drop(self, queue: str, epoch: int) -> list[Slice]:
        """Take out what came before an epoch of a queue."""
        return self._remove(lambda part: part.chunk.queue == queue and part.chunk.epoch < epoch)

    def holds(self, old: Old) -> bool:
        """Whether anything has waited for too long."""
        return any(is_old(part.chunk, old) for part, _ in self._parts)

    def recall(self, old: Old) -> list[Slice]:
        """Take out what has waited for too long."""
        return self._remove(lambda part: is_old(part.chunk, old))

    def withdraw(self, epoch: int, position: int) -> tuple[Chunk, int] | None:
        """Take out one delivery."""
        for place, (part, came) in enumerate(self._parts):
            index = position - part.chunk.first
            if part.chunk.epoch == epoch and part.start <= index < part.stop:
                before, rest = part.split(index - part.start)
                gone, after = rest.split(1)
                del self._parts[place]
                for left in (after, before):
                    if left.size:
                        self._parts.insert(place, (left, came))
                self.size -= 1
                self.bytes -= gone.bytes
                return part.chunk, index
        return None

    def _remove(self, goes: Callable[[Slice], bool]) -> list[Slice]:
        dropped: list[Slice] = []
        kept: deque[tuple[Slice, float]] = deque()
        for part, came in self._parts:
            if goes(part):
                dropped.append(part)
            else:
                kept.append((part, came))
        self._parts = kept
        self.size -= sum(part.size for part in dropped)
        self.bytes -= sum(part.bytes for part in dropped)
        return dropped


def bulk_cap(bulk_size: int, attempts: int, last_alone: int, *, cleared: bool = False) -> int:
    """Deliveries in a bulk of messages that were handed out `attempts` times before."""
    if last_alone and attempts + 1 >= last_alone:
        return 1
    if cleared:
        return bulk_size
    return max(1, bulk_size >> (2 * min(attempts, 32)))


def runs(chunk: Chunk) -> Sequence[Slice]:
    """The chunk cut where the number of attempts changes, or what they say of neighbours; what
    is withheld or suspected is left out."""
    if not chunk.attempts:
        return [Slice(chunk, 0, len(chunk.ends))]
    parts: list[Slice] = []
    start, before = 0, _history(chunk, 0)
    for index in range(1, len(chunk.ends)):
        history = _history(chunk, index)
        if history != before:
            parts.append(Slice(chunk, start, index))
            start, before = index, history
    parts.append(Slice(chunk, start, len(chunk.ends)))
    return [part for part in parts if not _is_apart(chunk, part.start)]


def _history(chunk: Chunk, index: int) -> tuple[int, bool, bool]:
    return chunk.attempts.get(index, 0), index in chunk.cleared, _is_apart(chunk, index)


def _is_apart(chunk: Chunk, index: int) -> bool:
    return index in chunk.withheld or index in chunk.suspected
