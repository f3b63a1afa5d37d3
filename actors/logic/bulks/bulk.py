"""Deliveries by reference: chunks, slices of them, bulks made of slices, a handler's report."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple


class Report(NamedTuple):
    """A handler's work for one route, in the bulks that a settlement answers."""

    route: str
    bulks: int = 0
    deliveries: int = 0
    seconds: float = 0.0  #: that it took for them
    error: str = ""  #: the last exception, for people


class Piece(NamedTuple):
    """Neighbouring deliveries cut out of one chunk, still undecoded.

    The i-th ends at `ends[i] - base` in `blob` and starts where the one before it
    ends; `ends` is an `array("I")` as bytes. Its receipt is
    `(incarnation, epoch, first + i)`.
    """

    queue: str
    epoch: int
    first: int
    blob: bytes
    ends: bytes
    base: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """A chunk as a client brings it: deliveries of one queue, cut but not decoded."""

    queue: str
    epoch: int
    first: int
    blob: bytes
    ends: bytes  #: `array("I")` of end offsets
    flagged: tuple[tuple[int, int], ...] = ()  #: (index, attempts before) where not 0


@dataclass(slots=True, eq=False)
class Chunk:
    """All that one read of the world brought for one queue."""

    number: int
    queue: str
    epoch: int
    first: int  #: position of the first delivery
    blob: bytes
    ends: array[int]
    attempts: dict[int, int] = field(default_factory=dict)  #: by index, where not 0
    cleared: set[int] = field(default_factory=set)  #: came back by a mark of their own, by index
    suspected: set[int] = field(default_factory=set)  #: may have killed a worker, by index
    withheld: set[int] = field(default_factory=set)  #: decided before anybody saw them, by index
    open: int = 0  #: deliveries without an outcome

    def __post_init__(self) -> None:
        self.open = len(self.ends)

    @property
    def last(self) -> int:
        """Position of the last delivery."""
        return self.first + len(self.ends) - 1

    def start(self, index: int) -> int:
        """Where the delivery at `index` begins in the blob."""
        return self.ends[index - 1] if index else 0

    def raw(self, index: int) -> bytes:
        """One delivery as it came."""
        return self.blob[self.start(index) : self.ends[index]]


class Slice(NamedTuple):
    """Neighbouring deliveries of one chunk, by index: from `start` up to but not `stop`."""

    chunk: Chunk
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def bytes(self) -> int:
        return self.chunk.ends[self.stop - 1] - self.chunk.start(self.start)

    def fitting(self, room: int) -> int:
        """How many of the first deliveries fit into so many bytes."""
        reach = self.chunk.start(self.start) + room
        return bisect_right(self.chunk.ends, reach, self.start, self.stop) - self.start

    def split(self, size: int) -> tuple[Slice, Slice]:
        middle = self.start + size
        return Slice(self.chunk, self.start, middle), Slice(self.chunk, middle, self.stop)

    def piece(self) -> Piece:
        """The part as it travels."""
        chunk, base = self.chunk, self.chunk.start(self.start)
        return Piece(
            chunk.queue,
            chunk.epoch,
            chunk.first + self.start,
            chunk.blob[base : chunk.ends[self.stop - 1]],
            chunk.ends[self.start : self.stop].tobytes(),
            base,
        )


def pieces(parts: Iterable[Slice]) -> Iterator[Piece]:
    """Parts as they travel; what stands side by side in a chunk is one piece."""
    whole: Slice | None = None
    for part in parts:
        if whole and whole.chunk is part.chunk and whole.stop == part.start:
            whole = Slice(whole.chunk, whole.start, part.stop)
            continue
        if whole:
            yield whole.piece()
        whole = part
    if whole:
        yield whole.piece()


@dataclass(slots=True, eq=False)
class Draft:
    """A bulk before it is numbered and handed out."""

    parts: list[Slice]
    alone: bool = False  #: a suspect: to run in a process with nothing else in it

    @property
    def size(self) -> int:
        size = 0
        for _, start, stop in self.parts:  # a loop: a bulk of one message is asked most often
            size += stop - start
        return size

    def deliveries(self) -> Iterator[tuple[Chunk, int]]:
        """Each delivery as (chunk, index)."""
        for chunk, start, stop in self.parts:
            for index in range(start, stop):
                yield chunk, index

    def flagged(self, offset: int = 0) -> Iterator[tuple[int, int]]:
        """(index in the bulk, attempts before) of what was handed out before."""
        for chunk, start, stop in self.parts:
            if chunk.attempts:
                for index in range(start, stop):
                    if attempts := chunk.attempts.get(index):
                        yield offset + index - start, attempts
            offset += stop - start

    def count_attempt(self) -> None:
        """It was handed out once more: each delivery has one attempt more behind it."""
        for chunk, index in self.deliveries():
            chunk.attempts[index] = chunk.attempts.get(index, 0) + 1

    def apart(self, last: int) -> list[Draft]:
        """In the same order, each delivery by itself whose hand-out number `last` is next."""
        drafts: list[Draft] = []
        joins = False
        for chunk, index in self.deliveries():
            alone = bool(last) and chunk.attempts.get(index, 0) + 1 >= last
            if not joins or alone:
                drafts.append(Draft([], self.alone))
            drafts[-1]._append(chunk, index)
            joins = not alone
        return drafts

    def _append(self, chunk: Chunk, index: int) -> None:
        before = self.parts[-1] if self.parts else None
        if before and before.chunk is chunk and before.stop == index:
            self.parts[-1] = before._replace(stop=index + 1)
        else:
            self.parts.append(Slice(chunk, index, index + 1))

    def halves(self) -> tuple[Draft, Draft]:
        """Two suspects with the deliveries of this one, which has at least two."""
        left: list[Slice] = []
        right: list[Slice] = []
        room = self.size // 2
        for part in self.parts:
            first, second = part.split(min(room, part.size))
            room -= first.size
            left += [first] if first.size else []
            right += [second] if second.size else []
        return Draft(left, alone=True), Draft(right, alone=True)


@dataclass(slots=True)
class Handed:
    """A bulk in a handler's hand."""

    number: int
    route: str
    draft: Draft
    timeout: float  #: seconds for it, from when the handler was free to begin it
    sent: float
    started: float | None = None  #: when that was
    until: float | None = None  #: when its time is over, where its handler has told

    @property
    def deadline(self) -> float:
        """When it will have been worked on for longer than it may."""
        if self.until is not None:
            return self.until
        return inf if self.started is None else self.started + self.timeout

    def holds(self, epoch: int, position: int) -> bool:
        """Whether a delivery is in it."""
        return any(
            chunk.epoch == epoch and chunk.first + start <= position < chunk.first + stop
            for chunk, start, stop in self.draft.parts
        )
