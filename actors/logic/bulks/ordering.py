"""Bulks in which messages of one key stay one after another."""

from __future__ import annotations

from bisect import bisect
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.logic.bulks.batching import bulk_cap
from actors.logic.bulks.bulk import Chunk, Draft, Slice
from actors.logic.settlement.unacked import Old, is_old


@dataclass(slots=True, eq=False)
class Queued:
    """One delivery in its key's queue."""

    part: Slice
    came: float
    not_before: float = 0.0
    alone: bool = False  #: it was in a process that died
    failed: bool = False  #: since it came

    @property
    def attempts(self) -> int:
        return self.part.chunk.attempts.get(self.part.start, 0)

    @property
    def place(self) -> tuple[int, int]:
        """In the order of arrival."""
        return self.part.chunk.number, self.part.start


class Ordering:
    """The open bulks of one route with a key: a route queue for each key.

    While deliveries of a key are in a handler's hand, or its first waits to be tried
    again, the rest of its queue waits. A bulk takes its deliveries in order of arrival,
    several of one key if they stand behind one another.
    """

    def __init__(
        self,
        bulk_size: int,
        bulk_bytes: int,
        interval: float,
        last_alone: int,
        key_of: Callable[[bytes], str],
    ) -> None:
        self._bulk_size = bulk_size
        self._bulk_bytes = bulk_bytes
        self._interval = interval
        self.last_alone = last_alone  #: the hand-out that is always made alone; 0: none
        self._key_of = key_of
        self._route_queues: dict[str, deque[Queued]] = {}
        self._keys: dict[tuple[int, int], str] = {}  # by receipt, while in the queue or in hand
        self._in_hand: dict[str, int] = {}
        self.size = 0

    def add(self, chunk: Chunk, now: float) -> None:
        """Put a chunk in the queue; what is withheld has its key wait for an outcome."""
        for index in range(len(chunk.ends)):
            key = self._key_of(chunk.raw(index))
            self._keys[chunk.epoch, chunk.first + index] = key
            if index in chunk.withheld:
                self._in_hand[key] = self._in_hand.get(key, 0) + 1
                continue
            alone = index in chunk.suspected
            queued = Queued(Slice(chunk, index, index + 1), now, alone=alone)
            self._route_queues.setdefault(key, deque()).append(queued)
            self.size += 1

    def take(self, now: float, flush: bool = False) -> Draft | None:
        """The next bulk that is due: full, old enough, or whatever there is on `flush`."""
        chosen, full = self._choose(now)
        if not chosen:
            return None
        if not (flush or full or now >= min(q.came for q in chosen) + self._interval):
            return None
        return self._taken(chosen)

    def suspects(self, now: float) -> list[Draft]:
        """Each that was in a process that died, and is the next of its key."""
        heads = [
            route_queue[0]
            for key, route_queue in self._route_queues.items()
            if key not in self._in_hand
        ]
        return [self._taken([q]) for q in heads if q.alone and q.not_before <= now]

    def ready(self, now: float) -> bool:
        """Whether a bulk may be due: to choose one is the way to know."""
        return self.size > 0

    def due(self, now: float) -> float | None:
        """When a route queue may be due next."""
        route_queues = [
            route_queue
            for key, route_queue in self._route_queues.items()
            if key not in self._in_hand
        ]
        times = [route_queue[0].not_before for route_queue in route_queues]
        times += [
            max(route_queue[0].not_before, min(q.came for q in route_queue) + self._interval)
            for route_queue in route_queues
        ]
        return min((time for time in times if time > now), default=None)

    def settled(self, part: Slice) -> None:
        """Deliveries in hand have their outcome: their keys move on."""
        for index in range(part.start, part.stop):
            key = self._keys.pop((part.chunk.epoch, part.chunk.first + index), None)
            if key is not None:
                self._release(key)

    def again(
        self,
        failed: Sequence[tuple[Chunk, int, float]],
        now: float,
        alone: bool = False,
        snoozed: bool = False,
    ) -> None:
        """Deliveries in hand failed, or were snoozed: each back to its place in the queue, not
        before a time."""
        for chunk, index, not_before in failed:
            key = self._keys.get((chunk.epoch, chunk.first + index))
            if key is None:
                continue
            self._release(key)
            queued = Queued(Slice(chunk, index, index + 1), now, not_before, alone, not snoozed)
            route_queue = self._route_queues.setdefault(key, deque())
            route_queue.insert(bisect(route_queue, queued.place, key=lambda q: q.place), queued)
            self.size += 1

    def give_back(self, now: float) -> list[tuple[Chunk, int, bool]]:
        """Take out lines in which one is to be tried again later, as (chunk, index, failed)."""
        given: list[tuple[Chunk, int, bool]] = []
        for key, route_queue in list(self._route_queues.items()):
            if any(queued.not_before > now for queued in route_queue):
                given += [(q.part.chunk, q.part.start, q.failed) for q in route_queue]
                del self._route_queues[key]
        for chunk, index, _ in given:
            del self._keys[chunk.epoch, chunk.first + index]
        self.size -= len(given)
        return given

    def holds(self, old: Old) -> bool:
        """Whether anything has waited for too long."""
        return any(
            is_old(q.part.chunk, old)
            for route_queue in self._route_queues.values()
            for q in route_queue
        )

    def recall(self, old: Old) -> list[tuple[Chunk, int, bool]]:
        """Nothing is taken out: what came later would go before it."""
        return []

    def drop(self, queue: str, epoch: int) -> list[Slice]:
        """Take out what came before an epoch of a queue: it will come again."""
        dropped: list[Slice] = []
        for key, route_queue in list(self._route_queues.items()):
            dropped += [q.part for q in route_queue if _before(q.part, queue, epoch)]
            self._route_queues[key] = deque(
                q for q in route_queue if not _before(q.part, queue, epoch)
            )
            if not self._route_queues[key]:
                del self._route_queues[key]
        for part in dropped:
            del self._keys[part.chunk.epoch, part.chunk.first + part.start]
        self.size -= len(dropped)
        return dropped

    def _taken(self, chosen: list[Queued]) -> Draft:
        """A bulk of these, out of their keys' queues."""
        for queued in chosen:
            key = self._key(queued.part)
            route_queue = self._route_queues.pop(key)
            route_queue.popleft()
            if route_queue:
                self._route_queues[key] = (
                    route_queue  # behind the others: a busy key must starve none
                )
            self._in_hand[key] = self._in_hand.get(key, 0) + 1
        self.size -= len(chosen)
        return Draft([queued.part for queued in chosen], alone=chosen[0].alone)

    def _choose(self, now: float) -> tuple[list[Queued], bool]:
        """The next bulk, and whether it has to leave out what stands in the queue with it.

        It begins with what asks for the smallest: a retry must not wait for a bulk to fill.
        """
        ready = [
            route_queue
            for key, route_queue in self._route_queues.items()
            if key not in self._in_hand and route_queue[0].not_before <= now
        ]
        ready.sort(key=lambda route_queue: self._cap(route_queue[0]))
        chosen: list[Queued] = []
        room, full = self._bulk_bytes, False
        for route_queue in ready:
            for queued in route_queue:
                if queued.not_before > now:
                    break
                if chosen and not self._joins(queued, chosen, room):
                    full = True
                    break
                chosen.append(queued)
                room -= queued.part.bytes
        full = full or room <= 0 or (bool(chosen) and len(chosen) >= self._cap(chosen[0]))
        return chosen, full

    def _joins(self, queued: Queued, chosen: list[Queued], room: int) -> bool:
        cap = min(self._cap(queued), self._cap(chosen[0]))
        return len(chosen) < cap and queued.part.bytes <= room

    def _cap(self, queued: Queued) -> int:
        if queued.alone:
            return 1
        return bulk_cap(self._bulk_size, queued.attempts, self.last_alone)

    def _key(self, part: Slice) -> str:
        return self._keys[part.chunk.epoch, part.chunk.first + part.start]

    def _release(self, key: str) -> None:
        self._in_hand[key] -= 1
        if not self._in_hand[key]:
            del self._in_hand[key]


def _before(part: Slice, queue: str, epoch: int) -> bool:
    return part.chunk.queue == queue and part.chunk.epoch < epoch
