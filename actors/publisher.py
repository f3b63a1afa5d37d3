"""Putting messages into queues, from web applications, scripts and handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, Self

from actors.api.connections import parse_connection
from actors.api.connector import connector_of
from actors.api.puts import begun
from actors.logic.entry import Entry, check_queue, check_seconds, serialized


class Store(Protocol):
    """The place that messages go to: a connector's publisher."""

    def put(self, queue: str, entries: Sequence[Entry], timeout: float) -> list[str]: ...

    def close(self) -> None: ...


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
        timeout: float = 5.0,
    ) -> str:
        """Store one message durably and return its id, within `timeout` seconds.

        `data` travels as JSON; `serialized_data` as it is. `priority` is 0 to 255, higher
        first; `delay` in seconds is at least kept, and on RabbitMQ rounded up to a step.

        Raises `PublishError` where the message is not proven to be stored,
        `ConfigurationError` where the spool's path is no good, `ValueError` and `TypeError`
        where the message cannot be one.
        """
        body = serialized(data, serialized_data)
        entry = Entry(body, "" if message_id is None else message_id, headers, priority, delay)
        return self._put(queue, [entry], timeout)[0]

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
        entries = [Entry(body, "", headers, priority, delay) for body in bodies]
        return self._put(queue, entries, timeout)

    def close(self) -> None:
        """Let go of file or connection; a later `put` opens it again."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, queue: str, entries: list[Entry], timeout: float) -> list[str]:
        check_queue(queue)
        check_seconds("timeout", timeout)
        return self._store.put(queue, entries, timeout)
