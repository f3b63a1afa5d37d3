"""Hosts that do not answer, so that nothing waits for them."""

from __future__ import annotations

PROBE_INTERVAL_S = 1.0  #: seconds between two messages that may try whether a host is back


class UnreachableNodes:
    """Hosts that were lost, each until something comes from it."""

    def __init__(self) -> None:
        self._lost: dict[str, float] = {}  # host: when the next message may try

    def lose(self, host: str, now: float) -> None:
        """A connection could not be made, or ended for want of an answer."""
        self._lost[host] = now + PROBE_INTERVAL_S

    def find(self, host: str) -> None:
        """It has answered."""
        self._lost.pop(host, None)

    def admits(self, host: str, now: float) -> bool:
        """Whether a message to it may leave; of those to a lost one, one each pause."""
        due = self._lost.get(host)
        if due is None:
            return True
        if now < due:
            return False
        self._lost[host] = now + PROBE_INTERVAL_S
        return True
