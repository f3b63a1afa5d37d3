"""Counts of what should not happen."""

from __future__ import annotations

import logging
import time
from collections import Counter


class ThrottledLog:
    """Counts what should not happen, and logs each kind at most once a second."""

    def __init__(self, logger: logging.Logger) -> None:
        self.counts: Counter[str] = Counter()
        self._log = logger
        self._last: dict[str, float] = {}

    def add(self, what: str, detail: object = "", count: int = 1) -> None:
        self.counts[what] += count
        now = time.monotonic()
        if now - self._last.get(what, float("-inf")) >= 1.0:
            self._last[what] = now
            self._log.warning("%s: %s (%d so far)", what, detail, self.counts[what])
