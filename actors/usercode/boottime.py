"""A clock of this host that all of its processes share."""

from __future__ import annotations

import time


def boot_time() -> float:
    """Seconds that pass while the host is suspended, too (Linux)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
