"""What becomes of a message: verdicts, and the one table for everything that goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from random import Random
from zlib import crc32

#: The share of a wait by which jitter shortens it at the most. Never longer: a wait on RabbitMQ
#: is rounded up, and would be pushed to the next waiting queue.
JITTER = 0.1


class Verdict(IntEnum):
    """What becomes of one delivery. The numbers travel, the names are for people."""

    ACK = 0
    REQUEUE = 1  #: a failure: given back, and the broker may count it
    REJECT = 2  #: the broker's own: dropped, or to the queue's dead-letter exchange
    DEAD_LETTER = 3  #: a copy with the reason in `<queue>.dead`, confirmed, then acknowledged
    RETRY = 4  #: waits outside the queue, then comes back with one attempt more
    RETURN = 5  #: never handled: given back without a count against it
    SNOOZE = 6  #: comes back after a while without a count against it


@dataclass(frozen=True, slots=True)
class Decision:
    """What a table entry says: a verdict, and for RETRY the ladder it waits on."""

    verdict: Verdict
    attempts: int = 0  #: RETRY: hand-outs in all, then DEAD_LETTER; 0: without end
    first: float = 0.0  #: seconds before the second hand-out
    factor: float = 1.0
    cap: float = 0.0  #: seconds at the most
    jitter: bool = False  #: each wait is shortened by up to `JITTER`

    def apply(self, attempts: int, content: bytes = b"") -> tuple[Verdict, float]:
        """Verdict and delay in seconds for a message handed out `attempts` times by now.

        Jitter is a hash of the content and the attempt: it spreads messages that failed
        together, and the same run gives the same delays.
        """
        if self.verdict is not Verdict.RETRY:
            return self.verdict, 0.0
        if self.attempts and attempts >= self.attempts:
            return Verdict.DEAD_LETTER, 0.0
        try:
            delay = self.first * float(self.factor) ** max(attempts - 1, 0)
        except OverflowError:
            delay = self.cap
        delay = min(self.cap, delay)
        if self.jitter:
            delay *= 1.0 - JITTER * crc32(content, attempts & 0xFFFFFFFF) / 2**32
        return Verdict.RETRY, delay


REQUEUE = Decision(Verdict.REQUEUE)
DEAD_LETTER = Decision(Verdict.DEAD_LETTER)


def decide(table: Mapping[type[BaseException], Decision], error: type[BaseException]) -> Decision:
    """The entry of the most specific class; the table must have one for `Exception`.

    What is no `Exception` (a `SystemExit` of the user's, say) is treated as one.
    """
    for base in error.__mro__:
        if base in table:
            return table[base]
    return table[Exception]


def class_name(error: type[BaseException]) -> str:
    """The qualified name of an exception class; without the module for Python's own."""
    prefix = "" if error.__module__ == "builtins" else f"{error.__module__}."
    return prefix + error.__qualname__


def requeue_delay(failures: int, random: Random) -> float:
    """Seconds to hold a delivery before it is requeued for the n-th time: 0, then 1, 2, 4 … 60.

    Jitter shortens it, so that a bulk of failures does not return as one wave.
    """
    if failures <= 1:
        return 0.0
    return float(min(60.0, 2.0 ** min(failures - 2, 6))) * (1.0 - JITTER * random.random())
