"""Peers that have proven nothing yet, and nodes that do not answer: neither holds up the others."""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

Stranger = TypeVar("Stranger")


class UnauthenticatedPeers(Generic[Stranger]):
    """Peers that have connected and proven nothing yet.

    There are at most `most` in all and `most_of_one` of one origin, each for `seconds`. Where
    there is one too many, the origin that has the most loses its oldest: a flood from one
    place drives out itself.
    """

    def __init__(self, most: int, most_of_one: int, seconds: float) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._seconds = seconds
        self._waiting: dict[Stranger, tuple[str, float]] = {}  # the oldest first
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, stranger: Stranger, origin: str, now: float) -> Stranger | None:
        """Somebody has connected; returns who must go for that."""
        self._waiting[stranger] = origin, now + self._seconds
        self._of[origin] += 1
        if self._of[origin] > self._most_of_one:
            return self._oldest(origin)
        if len(self._waiting) > self._most:
            return self._oldest(self._of.most_common(1)[0][0])
        return None

    def discard(self, stranger: Stranger) -> None:
        """It is gone, or a stranger no more."""
        if found := self._waiting.pop(stranger, None):
            self._of[found[0]] -= 1
            if not self._of[found[0]]:
                del self._of[found[0]]

    def deadline(self) -> float | None:
        """When the next has had its time."""
        return next((deadline for _, deadline in self._waiting.values()), None)

    def overdue(self, now: float) -> list[Stranger]:
        return [each for each, (_, deadline) in self._waiting.items() if deadline < now]

    def _oldest(self, origin: str) -> Stranger:
        return next(each for each, (its, _) in self._waiting.items() if its == origin)


PROBE_INTERVAL_S = 1.0  #: seconds between two messages that may try whether a host is back


class UnreachableNodes:
    """Nodes that were lost, each until something comes from it."""

    def __init__(self) -> None:
        self._lost: dict[str, float] = {}  # host: when the next message may try

    def lose(self, host: str, now: float) -> None:
        """A connection could not be made, or ended for want of an answer."""
        self._lost[host] = now + PROBE_INTERVAL_S

    def find(self, host: str) -> None:
        """It has answered."""
        self._lost.pop(host, None)

    def admits(self, host: str, now: float) -> bool:
        """Whether a message to it may leave; of those to a lost one, one each pause."""
        due = self._lost.get(host)
        if due is None:
            return True
        if now < due:
            return False
        self._lost[host] = now + PROBE_INTERVAL_S
        return True
