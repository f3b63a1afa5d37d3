"""The point at which a loop fails so often that nothing but its end helps."""

from __future__ import annotations

from collections import deque

#: Failures, and the seconds in which that many are without end.
FAILURES = 10
SECONDS = 1.0


class Fuse:
    """Blows at the tenth failure within a second: what fails that fast will go on failing."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=FAILURES)

    def failed(self, now: float) -> bool:
        """Count a failure; whether it is one too many."""
        self._times.append(now)
        return len(self._times) == FAILURES and now - self._times[0] < SECONDS
