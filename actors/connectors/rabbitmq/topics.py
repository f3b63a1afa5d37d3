"""Topics over RabbitMQ: each process that listens has a queue, and a window of what came."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence

from actors.connectors.rabbitmq.amqp import Settings
from actors.connectors.rabbitmq.message import decode_properties
from actors.connectors.rabbitmq.process_queue import EXCHANGE, ProcessQueue
from actors.connectors.rabbitmq.publishing.publisher import AMQPPublisher
from actors.errors import InvalidMessage, PublishError
from actors.log import own_logger
from actors.logic.consuming.frames import Delivery
from actors.logic.messages.entry import OutgoingMessage
from actors.logic.topics import EventWindow, TopicEvent

#: Seconds within which a topic is bound or an event published, while the broker is away.
TIMEOUT_S = 30.0

_PREFIX = "callboard.topic."

logger = own_logger("actors.topics")

Deliver = Callable[[TopicEvent], None]


class RabbitMQTopics:
    """An `actors.tasks.topics.TopicClient` of one vhost. Safe for threads."""

    def __init__(self, settings: str) -> None:
        """`settings` as `PipelinePlan.settings` has them."""
        self.pid = os.getpid()
        self._settings = Settings.parse(settings)
        self._publisher = AMQPPublisher(settings)
        self._lock = threading.Lock()
        self._queue: ProcessQueue | None = None
        self._windows: dict[str, EventWindow] = {}  # of the topics that are listened to
        self._listeners: dict[str, list[Deliver]] = {}

    async def publish(self, topic: str, body: bytes) -> str:
        return await asyncio.to_thread(self.publish_sync, topic, body)

    def publish_sync(self, topic: str, body: bytes) -> str:
        given = {
            "message_id": uuid.uuid4().hex, "type": "event", "content_type": "application/json",
            "delivery_mode": 1,
        }  # fmt: skip
        properties, id = self._publisher.properties(given)
        message = OutgoingMessage(f"{_PREFIX}{topic}", body, properties, id, EXCHANGE)
        self._publisher.send([message], TIMEOUT_S)
        if message.outcome:
            raise PublishError(f"{self._settings}: topic {topic}: {message.outcome}")
        return id

    async def listen(self, topic: str, since: str | None, deliver: Deliver) -> Callable[[], None]:
        return await asyncio.to_thread(self.listen_sync, topic, since, deliver)

    def listen_sync(self, topic: str, since: str | None, deliver: Deliver) -> Callable[[], None]:
        with self._lock:
            if self._queue is None:
                self._queue = ProcessQueue(self._settings, "events", self._on_events, _forget)
            queue = self._queue
            if topic not in self._windows:
                self._windows[topic] = EventWindow()
        queue.bind(f"{_PREFIX}{topic}")
        queue.wait_ready(TIMEOUT_S)
        with self._lock:  # nothing comes between what was there and what is new
            for event in self._windows[topic].since(since, time.monotonic()):
                deliver(event)
            self._listeners.setdefault(topic, []).append(deliver)

        def stop() -> None:
            with self._lock:
                self._listeners[topic].remove(deliver)

        return stop

    def close(self) -> None:
        with self._lock:
            queue, self._queue = self._queue, None
            self._windows.clear()
        if queue is not None:
            queue.close()
        self._publisher.close()

    def _on_events(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._on_event(delivery)

    def _on_event(self, delivery: Delivery) -> None:
        topic = delivery.routing_key.removeprefix(_PREFIX)
        try:
            id = decode_properties(delivery.properties).message_id or uuid.uuid4().hex
            event = TopicEvent(id, topic, json.loads(delivery.body))
        except (InvalidMessage, ValueError, RecursionError) as error:
            logger.warning("%s: topic %s: an event is no JSON: %s", self._settings, topic, error)
            return
        with self._lock:
            if topic in self._windows:
                self._windows[topic].add(event, time.monotonic())
            for deliver in self._listeners.get(topic, ()):
                deliver(event)


def _forget() -> None:
    """What was in a queue that was deleted nobody hears: events come at most once."""
