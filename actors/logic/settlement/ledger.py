"""The deliveries that were handed on and are not settled, and what to tell the world of them."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from actors.logic.settlement.failure import Outcome

#: Outcomes after which a message is handed out again.
_COMES_AGAIN = (Outcome.REQUEUE, Outcome.RETURN)


class Flush(NamedTuple):
    """The settlements that a ledger has for the world now, by position within one epoch.

    Returns and rejections are to be written before the `multiple` ack of `prefix`,
    which would otherwise acknowledge them too.
    """

    prefix: int = 0  #: acknowledged now, and all below it settled: one `multiple` ack; 0: none
    acked: tuple[tuple[int, int], ...] = ()  #: (first, last) newly acknowledged, prefix included
    failed: tuple[int, ...] = ()  #: give back, a failure (`basic.reject`, requeue)
    returned: tuple[int, ...] = ()  #: give back, never handled (`basic.nack`, requeue)
    rejected: tuple[int, ...] = ()  #: `basic.reject` without requeue
    #: (position, attempts of the next hand-out) of what is given back, where that is known
    told: tuple[tuple[int, int], ...] = ()


class Ledger:
    """The deliveries of one epoch, by position from 1.

    A position is open, then decided (held for later, or being copied elsewhere) or
    at once settled; nothing is settled twice. The contiguous settled prefix is one
    number, what is settled beyond it a short sorted list of ranges.
    """

    def __init__(self) -> None:
        self.last = 0  #: the highest position delivered
        self.prefix = 0  #: all positions up to this one are settled
        self._beyond: list[tuple[int, int]] = []
        self._settled_beyond = 0
        self._decided: set[int] = set()
        self._held: list[tuple[float, int, Outcome]] = []
        self._acked: list[tuple[int, int]] = []
        self._told: dict[int, int] = {}  #: attempts, by position, of what is given back
        self._given_back: dict[Outcome, list[int]] = {
            Outcome.REQUEUE: [],
            Outcome.RETURN: [],
            Outcome.REJECT: [],
        }

    @property
    def unsettled(self) -> int:
        """Deliveries that the world still counts as ours."""
        return self.last - self.prefix - self._settled_beyond

    @property
    def held(self) -> int:
        """Deliveries that wait here before they are given back."""
        return len(self._held)

    @property
    def decided(self) -> int:
        """Deliveries whose outcome is known and not yet carried out."""
        return len(self._decided)

    def deliver(self, count: int) -> int:
        """Enter so many new deliveries; returns the position of the first."""
        first = self.last + 1
        self.last += count
        return first

    def settle(self, first: int, last: int, outcome: Outcome, attempts: int = 0) -> int:
        """Settle what is still open of a range with ACK, REQUEUE, RETURN or REJECT.

        Returns how many were; a repeated or foreign settlement settles none. `attempts` of the
        next hand-out, where they are known, go with a single delivery that is given back.
        """
        count = 0
        for low, high in list(self.open(first, last)):
            if attempts and outcome in _COMES_AGAIN:
                self._told[low] = attempts
            self._close(low, high, outcome)
            count += high - low + 1
        return count

    def open(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that nobody has decided on, as (first, last)."""
        for low, high in self._unsettled(first, last):
            for decided in self._decided_within(low, high):
                if decided > low:
                    yield low, decided - 1
                low = decided + 1
            if low <= high:
                yield low, high

    def hold(
        self,
        position: int,
        until: float,
        outcome: Outcome = Outcome.REQUEUE,
        attempts: int = 0,
    ) -> bool:
        """Keep an open delivery until a time, then give it back. False: it is not open."""
        return self.decide(position) and self.postpone(position, until, outcome, attempts)

    def postpone(self, position: int, until: float, outcome: Outcome, attempts: int = 0) -> bool:
        """Keep a delivery that was decided on, and give it back instead. False: it was not."""
        if position not in self._decided:
            return False
        if attempts:
            self._told[position] = attempts
        heapq.heappush(self._held, (until, position, outcome))
        return True

    def decide(self, position: int) -> bool:
        """Claim an open delivery for an outcome that takes time. False: it is not open."""
        if position in self._decided or not any(self._unsettled(position, position)):
            return False
        self._decided.add(position)
        return True

    def finish(self, position: int, outcome: Outcome) -> bool:
        """Settle a delivery that was decided on. False: it was not."""
        if position not in self._decided:
            return False
        self._decided.remove(position)
        self._close(position, position, outcome)
        return True

    def due(self, now: float) -> int:
        """Give back what was held until now; returns how many."""
        count = 0
        while self._held and self._held[0][0] <= now:
            _, position, outcome = heapq.heappop(self._held)
            count += self.finish(position, outcome)
        return count

    def release(self, last: int) -> int:
        """Give back now what is held of all up to a position; returns how many."""
        early = [one for one in self._held if one[1] <= last]
        self._held = [one for one in self._held if one[1] > last]
        heapq.heapify(self._held)
        return sum(self.finish(position, outcome) for _, position, outcome in sorted(early))

    def next_due(self) -> float | None:
        """When the first held delivery is due."""
        return self._held[0][0] if self._held else None

    def return_open(self) -> int:
        """Give back all that nobody has decided on; returns how many.

        A handler may have had them, so that each counts as an attempt.
        """
        return self.settle(1, self.last, Outcome.REQUEUE)

    def flush(self) -> Flush | None:
        """What was settled since the last flush, to be told to the world now."""
        given_back = self._given_back
        if not (self._acked or any(given_back.values())):
            return None
        acked = merged(self._acked)
        # Only a tag that is itself acknowledged now may carry `multiple`: RabbitMQ closes
        # the channel for a tag that a rejection has already settled.
        within = [min(high, self.prefix) for low, high in acked if low <= self.prefix]
        flush = Flush(
            max(within, default=0),
            tuple(acked),
            tuple(given_back[Outcome.REQUEUE]),
            tuple(given_back[Outcome.RETURN]),
            tuple(given_back[Outcome.REJECT]),
            tuple(
                (position, self._told.pop(position))
                for outcome in _COMES_AGAIN
                for position in given_back[outcome]
                if position in self._told
            ),
        )
        self._acked = []
        for positions in given_back.values():
            positions.clear()
        return flush

    def _unsettled(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        low, last = max(first, self.prefix + 1), min(last, self.last)
        index = bisect_left(self._beyond, (low, low))
        if index and self._beyond[index - 1][1] >= low:
            low = self._beyond[index - 1][1] + 1
        while low <= last:
            if index == len(self._beyond) or self._beyond[index][0] > last:
                yield low, last
                return
            start, end = self._beyond[index]
            if low < start:
                yield low, start - 1
            low = end + 1
            index += 1

    def _decided_within(self, low: int, high: int) -> list[int]:
        if high - low < len(self._decided):
            return [position for position in range(low, high + 1) if position in self._decided]
        return sorted(position for position in self._decided if low <= position <= high)

    def _close(self, first: int, last: int, outcome: Outcome) -> None:
        if outcome is Outcome.ACK:
            self._acked.append((first, last))
        else:
            self._given_back[outcome].extend(range(first, last + 1))
        if first == self.prefix + 1:
            self.prefix = last
            self._absorb()
            return
        self._settled_beyond += last - first + 1
        index = bisect_left(self._beyond, (first, last))
        if index < len(self._beyond) and self._beyond[index][0] == last + 1:
            last = self._beyond.pop(index)[1]
        if index and self._beyond[index - 1][1] == first - 1:
            index -= 1
            first = self._beyond.pop(index)[0]
        self._beyond.insert(index, (first, last))

    def _absorb(self) -> None:
        while self._beyond and self._beyond[0][0] == self.prefix + 1:
            first, last = self._beyond.pop(0)
            self._settled_beyond -= last - first + 1
            self.prefix = last


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same positions in the fewest (first, last) ranges, in order."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if result and result[-1][1] == first - 1:
            result[-1] = (result[-1][0], last)
        else:
            result.append((first, last))
    return result
