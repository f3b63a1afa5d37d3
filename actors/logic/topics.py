"""The events of topics, and the window in which those who come late find them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

#: What a window keeps: so many events, for so many seconds.
EVENTS_MAX = 100
WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class TopicEvent:
    """One event of a topic."""

    id: str  #: to go on after it: `topic.subscribe(since=event.id)`
    topic: str
    data: Any  #: the JSON value that was published


class EventWindow:
    """The last events of one topic, oldest first."""

    def __init__(self) -> None:
        self._events: deque[tuple[float, TopicEvent]] = deque(maxlen=EVENTS_MAX)

    def add(self, event: TopicEvent, now: float) -> None:
        """An event came."""
        self._events.append((now, event))

    def since(self, id: str | None, now: float) -> list[TopicEvent]:
        """What came after the event of an id; all there is where it is not known (any more), for
        twice is better than never. None: nothing."""
        while self._events and self._events[0][0] < now - WINDOW_S:
            self._events.popleft()
        if id is None:
            return []
        events = [event for _, event in self._events]
        known = next((at for at, event in enumerate(events, 1) if event.id == id), 0)
        return events[known:]
