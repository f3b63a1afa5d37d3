"""Restarts: when to start again, and when to stop trying."""

from __future__ import annotations

from collections import deque
from random import Random

#: Seconds of proven health after which past failures no longer count.
HEALTHY = 30.0


class Backoff:
    """Full-jitter backoff: the n-th delay is drawn from 0 to `min(cap, first * 2 ** (n - 1))`.

    Never below a tenth of that bound, so that a failing peer is not called in a tight
    loop. https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, first: float = 1.0, cap: float = 30.0) -> None:
        self.attempt = 0
        self._first = first
        self._cap = cap

    def fail(self, lived: float, random: Random) -> float:
        """Seconds until the next attempt, after one that lived so many seconds."""
        if lived >= HEALTHY:
            self.attempt = 0
        self.attempt += 1
        bound = min(self._cap, self._first * 2.0 ** min(self.attempt - 1, 32))
        return bound * random.uniform(0.1, 1.0)


class Intensity:
    """At most so many deaths in a sliding window; more of them are somebody else's matter."""

    def __init__(self, deaths: int = 5, period: float = 60.0) -> None:
        self.deaths = deaths
        self.period = period  #: seconds
        self._times: deque[float] = deque()

    def exceeded(self, now: float) -> bool:
        """Count one death now; True when it is one too many."""
        self._times.append(now)
        while self._times[0] < now - self.period:
            self._times.popleft()
        return len(self._times) > self.deaths
