"""An actor's reminder of the next thing that is due."""

from __future__ import annotations

from collections.abc import Iterable

from actors.roles.context import Context
from actors.roles.protocol import Reminder


class Alarm:
    """Reminders cannot be cancelled: an earlier one replaces a later one by its generation."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._at: float | None = None
        self._generation = 0

    def rang(self, reminder: Reminder) -> None:
        """A reminder came; whatever it was for, the caller looks at everything."""
        if reminder.generation == self._generation:
            self._at = None

    def set(self, times: Iterable[float | None], now: float) -> None:
        """Ring at the first of these times. What is overdue waits for an answer, not for a time."""
        soonest = min((time for time in times if time is not None and time > now), default=None)
        if soonest is not None and (self._at is None or soonest < self._at):
            self._at = soonest
            self._generation += 1
            self._context.remind(soonest - now, Reminder("look", self._generation))
