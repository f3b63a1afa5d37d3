"""The way from handlers into the world in memory: what is put is there at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from actors.connectors.memory.wire import Stored
from actors.connectors.memory.world import World
from actors.logic.messages.entry import MessageId, OutgoingMessage, entry_of


class WorldPublisher:
    """An `actors.api.outlet.AppPublisher`.

    A message for an exchange is recorded, and goes nowhere.
    """

    def __init__(self, world: World, kind: str) -> None:
        self.pid = os.getpid()
        self._world = world
        self._kind = kind

    def properties(self, given: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
        if self._kind == "spool":
            entry = entry_of(given)
            entry.check()
            entry.headers_as_json()
        if self._kind == "amqp":
            from actors.connectors.rabbitmq.publishing.publisher import encodable  # brings pika

            encodable(**given)
        id = given.get("message_id") or f"published {len(self._world.published) + 1}"
        return given, id

    def begin(self, message: OutgoingMessage) -> Future[str]:
        stored = Stored(message.body, message.id, dict(message.properties.get("headers") or {}))
        stored.exchange, stored.routing_key = message.exchange, message.routing_key
        self._world.published.append(stored)
        if not message.exchange:
            self._world.put(message.routing_key, stored, message.delay)
        done: Future[str] = Future()
        done.set_result(MessageId(message.id))
        return done

    def close(self) -> None:
        """There is nothing to let go of."""
