"""How much of its prefetch a consumer has, and what the next read should therefore bring."""

from __future__ import annotations

from actors.logic.ledger import Flush

#: Bytes that are worth a read, whatever the messages are like.
MOST = 64 * 1024


class Flow:
    """The deliveries of one consumer that are not settled."""

    def __init__(self, window: int) -> None:
        self.unsettled = 0
        self._window = window
        self._average = 0  # bytes a delivery, of the last read

    def took(self, count: int, size: int) -> None:
        """So many deliveries came, of so many bytes together."""
        self.unsettled += count
        self._average = size // count

    def settled(self, flush: Flush) -> None:
        self.unsettled -= sum(last - first + 1 for first, last in flush.acked)
        self.unsettled -= len(flush.failed) + len(flush.returned) + len(flush.rejected)

    def worth(self) -> int:
        """Bytes for which a reader may wait: 1 while there is not plenty to do.

        No more than half of what the broker still owes, or will after the next settlement (an
        eighth of the prefetch stands for that), as what comes may be smaller than what came.
        """
        if 2 * self.unsettled < self._window:
            return 1
        owed = max(self._window - self.unsettled, self._window // 8)
        return max(1, min(MOST, owed * self._average // 2))
