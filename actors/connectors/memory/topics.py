"""Topics in memory, on a loop in virtual time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from actors.connectors.memory.world import World
from actors.logic.topics import EventWindow, TopicEvent


class InlineTopics:
    """An `actors.tasks.topics.TopicClient` of a world in memory."""

    def __init__(self, world: World) -> None:
        self.pid = os.getpid()
        self._world = world
        self._windows: dict[str, EventWindow] = {}
        self._listeners: dict[str, list[Callable[[TopicEvent], None]]] = {}
        self._last = 0

    async def publish(self, topic: str, body: bytes) -> str:
        return self.publish_sync(topic, body)

    def publish_sync(self, topic: str, body: bytes) -> str:
        self._last += 1
        event = TopicEvent(str(self._last), topic, json.loads(body))
        self._windows.setdefault(topic, EventWindow()).add(event, self._world.clock())
        for deliver in self._listeners.get(topic, ()):
            deliver(event)
        return event.id

    async def listen(
        self, topic: str, since: str | None, deliver: Callable[[TopicEvent], None]
    ) -> Callable[[], None]:
        return self.listen_sync(topic, since, deliver)

    def listen_sync(
        self, topic: str, since: str | None, deliver: Callable[[TopicEvent], None]
    ) -> Callable[[], None]:
        window = self._windows.setdefault(topic, EventWindow())
        for event in window.since(since, self._world.clock()):
            deliver(event)
        listeners = self._listeners.setdefault(topic, [])
        listeners.append(deliver)
        return lambda: listeners.remove(deliver)

    def close(self) -> None:
        """There is nothing to let go of."""
