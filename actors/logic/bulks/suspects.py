"""The search for the message that kills its process: bisecting, without harm to its neighbours."""

from __future__ import annotations

from collections import Counter, deque

from actors.logic.bulks.bulk import Draft, Slice


class Suspects:
    """Bulks that were in a process that died, until they are cleared.

    They run one at a time in a process with nothing else in it. One that dies again is
    halved; only a crash of a message wholly alone counts against it.
    """

    def __init__(self, max_crashes: int) -> None:
        self._max_crashes = max_crashes
        self._waiting: deque[Draft] = deque()
        self._crashes: Counter[tuple[int, int]] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def died(self, drafts: list[Draft], *, alone: bool) -> list[Draft]:
        """These were in a process when it died, where `alone` one with nothing else in it;
        returns what is found guilty."""
        if not alone:
            for draft in drafts:
                self.quarantine(draft)
            return []
        (draft,) = drafts
        if draft.size > 1:
            self.defer([*draft.halves()])
            return []
        ((chunk, index),) = draft.deliveries()
        receipt = chunk.epoch, chunk.first + index
        self._crashes[receipt] += 1
        if self._crashes[receipt] >= self._max_crashes:
            del self._crashes[receipt]
            return drafts
        self._waiting.appendleft(Draft(draft.parts, alone=True))
        return []

    def quarantine(self, draft: Draft) -> None:
        """It was not alone in a process that died: it is to run alone, in its turn."""
        self._waiting.append(Draft(draft.parts, alone=True))

    def defer(self, drafts: list[Draft]) -> None:
        """These run next, each alone."""
        self._waiting.extendleft(reversed(drafts))

    def next(self) -> Draft | None:
        """The next to run alone."""
        return self._waiting.popleft() if self._waiting else None

    def forget(self, draft: Draft) -> None:
        """Its crashes count no more: it was answered, or it will come again."""
        for chunk, index in draft.deliveries():
            self._crashes.pop((chunk.epoch, chunk.first + index), None)

    def drop(self, queue: str, epoch: int) -> list[Slice]:
        """Take out what came before an epoch of a queue: it will come again."""
        dropped: list[Slice] = []
        for draft in self._waiting:
            gone = [p for p in draft.parts if p.chunk.queue == queue and p.chunk.epoch < epoch]
            draft.parts = [part for part in draft.parts if part not in gone]
            dropped += gone
        self.forget(Draft(dropped))
        self._waiting = deque(draft for draft in self._waiting if draft.parts)
        return dropped
