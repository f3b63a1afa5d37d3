"""The counts of one route's deliveries, by outcome."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from actors.logic.settlement.failure import Outcome


@dataclass(slots=True)
class Counts:
    """Since the connection actor began; `in_flight` and `oldest_s` are of this moment."""

    received: int = 0
    acked: int = 0
    rejected: int = 0
    requeued: int = 0
    retried: int = 0
    dead: int = 0
    last_error: str | None = None

    def settled(self, outcome: int, count: int) -> None:
        """So many deliveries got an outcome."""
        if outcome == Outcome.ACK:
            self.acked += count
        elif outcome == Outcome.REJECT:
            self.rejected += count
        elif outcome == Outcome.DEAD_LETTER:
            self.dead += count
        elif outcome in (Outcome.RETRY, Outcome.SNOOZE):
            self.retried += count
        else:
            self.requeued += count

    def report(
        self, name: str, in_flight: int, oldest: float, waiting: int | None = None
    ) -> dict[str, Any]:
        """As `callboard status --json` shows it; `waiting` where it was measured."""
        told = {"name": name, **asdict(self), "in_flight": in_flight, "oldest_s": round(oldest, 3)}
        return told if waiting is None else told | {"waiting": waiting}
