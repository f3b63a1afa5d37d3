"""The chunks that a batcher answers for, until the connection confirms their settlement."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

from actors.logic.bulks.bulk import Chunk, Slice

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
        """What was said of chunks that are settled here and still open at the connection."""
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
