"""A publisher for one connection, for web applications, scripts and handlers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Self

from actors.api.connections import parse_connection
from actors.api.connector import connector_of
from actors.api.outlet import begun
from actors.errors import PublishError
from actors.logic.messages.entry import (
    Entry,
    OutgoingMessage,
    Store,
    check_body,
    check_queue,
    check_seconds,
    check_way,
    outgoing,
    serialized,
)


class Publisher:
    """Puts messages into the queues of one connection, named by its URL.

    `spool:` (the file in the state directory), `spool:///path`, `amqp://` or `amqps://`.
    Synchronous, safe for threads and over forks. Nothing is opened before the first `put`.
    Raises `ConfigurationError` where the URL is none of these.
    """

    def __init__(self, url: str) -> None:
        connection = parse_connection(url)
        settings = connection.as_json(getattr(connection, "vhost", ""), {})
        self._store: Store = connector_of(connection.kind).load("publisher")(settings)

    def put(
        self,
        queue: str,
        data: Any = None,
        *,
        serialized_data: bytes | None = None,
        headers: Mapping[str, Any] | None = None,
        message_id: str | None = None,
        priority: int = 0,
        delay: float = 0.0,
        exchange: str = "",
        properties: Mapping[str, Any] | None = None,
        mandatory: bool | None = None,
        timeout: float = 5.0,
    ) -> str:
        """Stores one message durably and returns its id, within `timeout` seconds.

        `data` travels as JSON; `serialized_data` as it is. `priority` is 0 to 255, higher
        first; `delay` in seconds is at least kept, and on RabbitMQ rounded up to a step.
        With an `exchange`, the queue is the routing key; a spool has none. `properties` have
        AMQP's names. With `mandatory`, a message that no queue takes is an error: always where
        a queue is named, on request through an exchange.

        Raises `PublishError` where the message is not proven to be stored,
        `ConfigurationError` where the spool's path is no good, `ValueError` and `TypeError`
        where the message cannot be one.
        """
        body = serialized(data, serialized_data)
        entry = Entry(body, "" if message_id is None else message_id, headers, priority, delay)
        mandatory = not exchange if mandatory is None else mandatory
        return self._put(queue, [body], entry, timeout, exchange, properties, mandatory)[0]

    def aput(self, queue: str, data: Any = None, **options: Any) -> Coroutine[Any, Any, str]:
        """`put` in a thread of its own, with the same arguments."""
        put = partial(self.put, queue, data, **options)
        return begun("aput", queue, "put", asyncio.to_thread, put)

    def put_many(
        self,
        queue: str,
        bodies: Iterable[bytes],
        *,
        headers: Mapping[str, Any] | None = None,
        priority: int = 0,
        delay: float = 0.0,
        timeout: float = 30.0,
    ) -> list[str]:
        """Store many serialized messages in one write, in order, and return their ids.

        In a spool all or none are stored; elsewhere, after an error, some may be.
        """
        return self._put(queue, list(bodies), Entry(b"", "", headers, priority, delay), timeout)

    def close(self) -> None:
        """Let go of file or connection; a later `put` opens it again."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(
        self,
        queue: str,
        bodies: list[bytes],
        entry: Entry,
        timeout: float,
        exchange: str = "",
        properties: Mapping[str, Any] | None = None,
        mandatory: bool = True,
    ) -> list[str]:
        """Stores messages that differ in their bodies and ids: the rest is checked once."""
        check_way(exchange, queue) if exchange else check_queue(queue)
        check_seconds("timeout", timeout)
        entry.check()
        encoded = entry.headers_as_json()
        for body in bodies:
            check_body(body, len(encoded))
        messages = [
            outgoing(
                self._store,
                queue,
                body,
                properties,
                exchange=exchange,
                mandatory=mandatory,
                headers=json.loads(encoded or b"null"),
                message_id=entry.id or None,
                priority=entry.priority,
                delay=entry.delay,
            )
            for body in bodies[:1]
        ]
        messages += (self._another(messages[0], body) for body in bodies[1:])
        self._store.send(messages, timeout, is_patient=False)
        if refused := next((message.outcome for message in messages if message.outcome), ""):
            raise PublishError(f"{self._store}: {queue}: {refused}")
        return [message.id for message in messages]

    def _another(self, first: OutgoingMessage, body: bytes) -> OutgoingMessage:
        properties, id = self._store.another(first.properties)
        return OutgoingMessage(
            first.routing_key, body, properties, id, first.exchange, first.mandatory, first.delay
        )
