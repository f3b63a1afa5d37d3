"""The ages of one epoch's deliveries, as closely as it matters."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from actors.logic.bulks.bulk import Chunk

#: Steps in which the patience of a world is divided; a delivery is taken for older by one of them.
STEPS = 100

#: The last position of deliveries that have waited for too long, by epoch.
Old = Mapping[int, int]


class Ages:
    """Marks of time and position: what came up to a position came at that time or later."""

    def __init__(self, step: float) -> None:
        self._step = step  #: seconds between two marks
        self._marks: deque[tuple[float, int]] = deque()

    def came(self, last: int, now: float) -> None:
        """Deliveries came, up to this position."""
        if self._marks and now - self._marks[-1][0] < self._step:
            self._marks[-1] = self._marks[-1][0], last
        else:
            self._marks.append((now, last))

    def settled(self, prefix: int) -> None:
        """All up to this position are settled."""
        while self._marks and self._marks[0][1] <= prefix:
            self._marks.popleft()

    def before(self, time: float) -> int:
        """The last position of those that came until then; 0: there is none."""
        return max((last for came, last in self._marks if came <= time), default=0)


def is_old(chunk: Chunk, old: Old) -> bool:
    """Whether all of a chunk has waited for too long: it came as one."""
    return chunk.last <= old.get(chunk.epoch, 0)
