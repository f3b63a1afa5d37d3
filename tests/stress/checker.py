"""The total-queue check: whatever struck meanwhile, what became of each message?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Total:
    """The account of a run, once its queues are drained."""

    attempted: int  #: messages that somebody tried to publish
    acknowledged: int  #: … whose publishing was confirmed
    handled: int  #: different messages that handlers had
    lost: int  #: acknowledged and never handled
    unexpected: int  #: handled and never published
    duplicated: int  #: handled more than once
    untold: int  #: handled again without `redelivered` or `attempts` saying so

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in vars(self).items())


def total_queue(
    attempted: Iterable[int], acknowledged: Iterable[int], record: Iterable[dict[str, Any]]
) -> Total:
    """Account for a run by the numbers of its messages and the record of its handlers."""
    tried, sure, times, untold = set(attempted), set(acknowledged), Counter[int](), 0
    for line in record:
        number = line["n"]
        untold += bool(times[number] and not (line["redelivered"] or line["attempts"]))
        times[number] += 1
    return Total(
        attempted=len(tried),
        acknowledged=len(sure),
        handled=len(times),
        lost=len(sure - times.keys()),
        unexpected=len(times.keys() - tried),
        duplicated=sum(count > 1 for count in times.values()),
        untold=untold,
    )
