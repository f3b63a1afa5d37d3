"""The settlement of deliveries at the batcher: the chunks that it answers for, and what it says of
them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from random import Random
from typing import Generic, NamedTuple, TypeVar

from actors.logic.bulks.bulk import Chunk, Slice
from actors.logic.bulks.ordering import Ordering
from actors.logic.bulks.route_queue import RouteQueue
from actors.logic.consuming.frames import Delivery
from actors.logic.jobs.job import Answer
from actors.logic.settlement.attempts import counted, may_count
from actors.logic.settlement.failure import (
    Outcome,
    Policy,
    class_name,
    next_attempts,
    requeue_delay,
)
from actors.logic.settlement.recurrence import Recurrences
from actors.logic.settlement.unacked import Old

E = TypeVar("E")


class ChunkTable(Generic[E]):
    """Chunks by number and by receipt, with what was said of each delivery.

    What was said is kept until the connection no longer holds the chunk open, so that a
    settlement which got lost can be repeated; the deliveries themselves are let go before.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, Chunk] = {}
        self._said: dict[int, list[E]] = {}
        self._epochs: dict[int, list[Chunk]] = {}

    @property
    def open(self) -> bool:
        """Whether any delivery has no outcome yet."""
        return any(chunk.open for chunk in self._chunks.values())

    @property
    def numbers(self) -> list[int]:
        """All chunks that are known, settled or not."""
        return list(self._chunks)

    def add(self, chunk: Chunk) -> None:
        """Answer for a chunk from now on."""
        self._chunks[chunk.number] = chunk
        self._said[chunk.number] = []
        self._epochs.setdefault(chunk.epoch, []).append(chunk)

    def locate(self, epoch: int, first: int, last: int) -> Iterator[Slice]:
        """The chunks that positions of an epoch lie in; what is unknown is left out."""
        chunks = self._epochs.get(epoch, [])
        index = max(0, bisect_right(chunks, first, key=lambda chunk: chunk.first) - 1)
        for chunk in chunks[index:]:
            if chunk.first > last:
                return
            if chunk.last >= first:
                start, stop = max(first, chunk.first), min(last, chunk.last) + 1
                yield Slice(chunk, start - chunk.first, stop - chunk.first)

    def settle(self, part: Slice, entry: E) -> None:
        """Remember what is said of deliveries that had no outcome before."""
        chunk = part.chunk
        self._said[chunk.number].append(entry)
        chunk.open -= part.size
        if not chunk.open:
            chunk.blob = b""  # the larger part of the memory; repeats need only the outcomes

    def repeat(self, open_numbers: Collection[int]) -> list[E]:
        """The outcomes of chunks that are settled here and still open at the connection."""
        return [
            entry
            for number in open_numbers
            if (chunk := self._chunks.get(number)) and not chunk.open
            for entry in self._said[number]
        ]

    def confirm(self, open_numbers: Collection[int], below: int) -> None:
        """Forget settled chunks below a number that the connection no longer holds open."""
        for chunk in list(self._chunks.values()):
            if chunk.number < below and not chunk.open and chunk.number not in open_numbers:
                self._forget(chunk)

    def drop(self, queue: str, epoch: int) -> None:
        """Forget what came before an epoch of a queue: nothing can settle it any more."""
        for chunk in list(self._chunks.values()):
            if chunk.queue == queue and chunk.epoch < epoch:
                self._forget(chunk)

    def _forget(self, chunk: Chunk) -> None:
        del self._chunks[chunk.number]
        del self._said[chunk.number]
        chunks = self._epochs[chunk.epoch]
        chunks.remove(chunk)
        if not chunks:
            del self._epochs[chunk.epoch]


T = TypeVar("T")


class Sequence(Generic[T]):
    """Things numbered 1, 2, 3 … that may come late, twice or never.

    What comes twice, or after it was given up, is refused for ever.
    """

    def __init__(self) -> None:
        self.next = 1  #: the number that is waited for
        self._early: dict[int, T] = {}

    def put(self, number: int, thing: T) -> list[T]:
        """Take one; returns all that are now in order."""
        if number >= self.next:
            self._early.setdefault(number, thing)
        return self._ready()

    def give_up(self, open_numbers: Collection[int], below: int) -> list[T]:
        """Stop waiting for every number below `below` that the sender no longer holds open."""
        ready: list[T] = []
        while self.next < below and self.next not in open_numbers:
            self.next += 1
            ready += self._ready()
        return ready

    def early(self) -> list[int]:
        """Numbers that are here, and wait for one before them."""
        return sorted(self._early)

    def _ready(self) -> list[T]:
        ready: list[T] = []
        while self.next in self._early:
            ready.append(self._early.pop(self.next))
            self.next += 1
        return ready


class Range(NamedTuple):
    """Neighbouring deliveries of one epoch that share an outcome."""

    epoch: int
    first: int  #: position of the first
    last: int  #: position of the last, inclusive
    outcome: int


class Single(NamedTuple):
    """One delivery whose outcome has more to say."""

    epoch: int
    position: int
    outcome: int
    delay: float = 0.0  #: seconds before it may come back
    reason: str = ""
    error: str = ""  #: class of the exception, qualified, where one was raised
    attempts: int = 0  #: how often it has been handed out by now; 0: not known
    raw: bytes = b""  #: the delivery as it came, where a copy of it is to be made
    answer: Answer | None = None  #: of a job


#: Seconds until what nobody can work on returns to its queue.
UNSERVED_S = 5.0

#: Bytes a delivery beyond which a search of all of them takes longer than one of each header.
SEARCHED = 4096

_COMES_BACK = {Outcome.REQUEUE, Outcome.RETRY, Outcome.SNOOZE}
_COPIED = {Outcome.DEAD_LETTER, Outcome.RETRY, Outcome.SNOOZE}


class Settling:
    """Adds to each outcome what only the batcher knows, and remembers all that was said.

    A requeue gets its delay from how often the message failed, an outcome that makes a
    copy gets the delivery itself, and on an ordered route what comes back waits here, at
    the head of its key's queue.
    """

    def __init__(
        self, route_queues: dict[str, RouteQueue], *, broker_copies: bool, random: Random
    ) -> None:
        self.chunk_table: ChunkTable[Range | Single] = ChunkTable()
        self.draining = False
        self._route_queues = route_queues  # by queue
        self._broker_copies = broker_copies  # the peer is a broker: it counts no attempts for us
        self._random = random
        self._recurrences = Recurrences()
        self._said: list[Range | Single] = []

    def enter(self, chunk: Chunk) -> None:
        """Answer for a chunk; what failed before gets its attempts back."""
        if self._broker_copies:
            for index, attempts in chunk.attempts.items():
                past = self._recurrences.past(chunk.raw(index))
                chunk.attempts[index] = max(attempts, past.attempts)
                if past.cleared:
                    chunk.cleared.add(index)
            if len(chunk.blob) > SEARCHED * len(chunk.ends) or may_count(chunk.blob):
                _read_counts(chunk)
        self.chunk_table.add(chunk)

    def settle(
        self,
        ranges: Iterable[Range],
        singles: Iterable[Single],
        now: float,
        *,
        raised: bool = False,
    ) -> int:
        """Take a handler's answer, in which it `raised` or not; returns how many entries of it
        are of an ended epoch."""
        stale = 0
        for epoch, low, high, outcome in ranges:
            found = list(self.chunk_table.locate(epoch, low, high))
            stale += not found
            for piece in found:
                begin = piece.chunk.first
                said = Range(epoch, begin + piece.start, begin + piece.stop - 1, outcome)
                self._say(piece, said)
        for single in singles:
            found = list(self.chunk_table.locate(single.epoch, single.position, single.position))
            stale += not found
            for chunk, index, _ in found:
                self._single(chunk, index, single, now, marked=not raised)
        return stale

    def settle_as(
        self,
        deliveries: Iterable[tuple[Chunk, int]],
        policy: Policy,
        error: type[Exception],
        reason: str,
        now: float,
    ) -> None:
        """Apply the table to what befell deliveries outside their handler."""
        name = class_name(error)
        for chunk, index in deliveries:
            attempts = chunk.attempts.get(index, 1)
            outcome, delay = policy.apply(attempts, chunk.raw(index))
            position = chunk.first + index
            single = Single(chunk.epoch, position, outcome, delay, reason, name, attempts)
            self._single(chunk, index, single, now)

    def give_back(self, now: float) -> None:
        """A drain: lines that wait for a failed message return to the world, in order."""
        self.draining = True
        for route_queue in set(self._route_queues.values()):
            self._return(route_queue.batching.give_back(now))

    def recall(self, old: Old) -> None:
        """Returns to the world whatever waits too long here, uncounted where nobody has had it."""
        for route_queue in set(self._route_queues.values()):
            self._return(route_queue.recall(old))

    def withdraw(self, queue: str, epoch: int, position: int) -> None:
        """Returns a job that was canceled before anybody had it to the world."""
        self._return(self._route_queues[queue].withdraw(epoch, position))

    def hand_back(self, route_queue: RouteQueue, now: float) -> None:
        """Nobody can work on what waits in a route queue: it returns to the world after a while."""
        for chunk, index, _ in route_queue.batching.give_back(now):
            self._hand_back(chunk, index)
        while draft := route_queue.next_suspect() or route_queue.take(now, flush=True):
            for chunk, index in draft.deliveries():
                self._hand_back(chunk, index)

    def take(self) -> list[Range | Single]:
        """What is to be told to the connection now."""
        said, self._said = self._said, []
        return said

    def _return(self, deliveries: Iterable[tuple[Chunk, int, bool]]) -> None:
        for chunk, index, failed in deliveries:
            outcome = Outcome.REQUEUE if failed else Outcome.RETURN
            attempts = chunk.attempts.get(index, 0)
            entry = Single(chunk.epoch, chunk.first + index, outcome, attempts=attempts)
            self._say(Slice(chunk, index, index + 1), entry)

    def _hand_back(self, chunk: Chunk, index: int) -> None:
        handed_out = chunk.attempts.get(index, 0)
        outcome = Outcome.REQUEUE if handed_out else Outcome.RETURN
        position = chunk.first + index
        entry = Single(chunk.epoch, position, outcome, UNSERVED_S, attempts=handed_out)
        self._say(Slice(chunk, index, index + 1), entry)

    def _single(
        self, chunk: Chunk, index: int, single: Single, now: float, *, marked: bool = False
    ) -> None:
        if single.outcome == Outcome.REQUEUE and not single.delay:
            if self._broker_copies:
                self._recurrences.failed(chunk.raw(index), single.attempts, marked=marked)
            single = single._replace(delay=requeue_delay(single.attempts, self._random))
        elif single.outcome == Outcome.RETRY and self._broker_copies:
            # Where its copy cannot be stored, or it waits here, the message itself returns.
            self._recurrences.failed(chunk.raw(index), single.attempts, marked=marked)
        batching = self._route_queues[chunk.queue].batching
        if single.outcome in _COMES_BACK and isinstance(batching, Ordering):
            snoozed = single.outcome == Outcome.SNOOZE
            chunk.attempts[index] = next_attempts(single.outcome, single.attempts)
            # In a drain it returns to the world, and those behind it must not go before it.
            not_before = math.inf if self.draining else now + single.delay
            batching.again([(chunk, index, not_before)], now, snoozed=snoozed)
            if self.draining:
                self.give_back(now)
            return
        if self._broker_copies and single.outcome in _COPIED:
            single = single._replace(raw=chunk.raw(index))
        self._say(Slice(chunk, index, index + 1), single)

    def _say(self, part: Slice, entry: Range | Single) -> None:
        self._route_queues[part.chunk.queue].batching.settled(part)
        self.chunk_table.settle(part, entry)
        self._said.append(entry)


def _read_counts(chunk: Chunk) -> None:
    """A copy that waited outside its queue is new to the broker: its headers tell."""
    blob = memoryview(chunk.blob)
    for index, end in enumerate(chunk.ends):
        if attempts := counted(Delivery(blob[chunk.start(index) : end]), chunk.queue):
            chunk.attempts[index] = max(attempts, chunk.attempts.get(index, 0))
