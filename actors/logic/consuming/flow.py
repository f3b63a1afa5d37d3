"""The share of a consumer's prefetch that is used, and the reads that follow from it."""

from __future__ import annotations

import math

from actors.logic.settlement.ledger import Flush

#: Bytes that are worth a read, whatever the messages are like …
READ_MAX = 64 * 1024
#: … unless they are so large that fewer than so many would come in it: then so many of them …
MANY = 16
#: … or so many bytes.
LARGEST = 1024 * 1024
#: Seconds for which what came may wait for more, while there is plenty to do.
LONG = 0.01
#: Seconds for it while there is not, and what comes is quick …
SHORT = 0.005
#: … so that at least so many deliveries come in them.
SEVERAL_READS = 20


class Flow:
    """The deliveries of one consumer that are not settled."""

    def __init__(self, window: int) -> None:
        self.unsettled = 0
        self.window = window
        self._average = 0  # bytes a delivery, of the last read
        self._read = -math.inf  # when that was
        self._quick = False

    def took(self, count: int, size: int, now: float) -> None:
        """So many deliveries came, of so many bytes together."""
        self.unsettled += count
        self._average = size // count
        self._quick = count * SHORT >= SEVERAL_READS * (now - self._read)
        self._read = now

    def settled(self, flush: Flush) -> None:
        self.unsettled -= sum(last - first + 1 for first, last in flush.acked)
        self.unsettled -= len(flush.failed) + len(flush.returned) + len(flush.rejected)

    @property
    def most(self) -> int:
        """Bytes that one read may well bring."""
        return max(READ_MAX, min(MANY * self._average, LARGEST))

    def worth(self) -> tuple[int, float]:
        """Bytes that the next read should bring, and the seconds for which it may wait for them.

        One byte where little is to do and little comes: then nobody is kept waiting. No more than
        half of what the broker still owes, or will after the next settlement (an eighth of the
        prefetch stands for that), as what comes may be smaller than what came.
        """
        plenty = 2 * self.unsettled >= self.window
        if not plenty and not self._quick:
            return 1, 0.0
        owed = max(self.window - self.unsettled, self.window // 8)
        return max(1, min(self.most, owed * self._average // 2)), LONG if plenty else SHORT
