"""What was handed on and is not yet settled, and what to tell the world of it."""

from __future__ import annotations

from typing import NamedTuple


class Flush(NamedTuple):
    """What a ledger says to settle now, by position within one epoch."""

    prefix: int = 0  #: all positions up to this one are settled: one `multiple` ack; 0: none
    acked: tuple[tuple[int, int], ...] = ()  #: (first, last) newly acknowledged, prefix included
    failed: tuple[int, ...] = ()  #: give back, a failure (`basic.reject`, requeue)
    returned: tuple[int, ...] = ()  #: give back, never handled (`basic.nack`, requeue)
    rejected: tuple[int, ...] = ()  #: `basic.reject` without requeue
