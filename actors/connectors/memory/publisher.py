"""The way from handlers into the world in memory: what is put is there at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from actors.connectors.memory.wire import Stored
from actors.connectors.memory.world import World
from actors.logic.entry import Outgoing, entry_of


class WorldWay:
    """An `actors.api.outlet.Way`. A message for an exchange is recorded, and goes nowhere."""

    def __init__(self, world: World, kind: str) -> None:
        self.pid = os.getpid()
        self._world = world
        self._kind = kind

    def properties(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._kind == "spool":
            entry = entry_of(given)
            entry.check()
            entry.headers_as_json()
        if self._kind == "amqp":
            from actors.connectors.rabbitmq.publisher import encodable  # brings pika

            encodable(**given)
        return given

    def begin(self, message: Outgoing) -> Future[None]:
        id = message.properties.get("message_id") or f"published {len(self._world.published) + 1}"
        stored = Stored(message.body, id, dict(message.properties.get("headers") or {}))
        stored.exchange, stored.routing_key = message.exchange, message.routing_key
        self._world.published.append(stored)
        if not message.exchange:
            self._world.put(message.routing_key, stored)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:
        """There is nothing to let go of."""
