"""Putting messages into the connections of an app, from its handlers."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypedDict, Unpack, cast

from actors.api.connector import connector_of
from actors.api.puts import begun
from actors.logic.messages.entry import (
    OutgoingMessage,
    check_properties,
    check_text,
    check_way,
    outgoing,
    serialized,
)

Properties = Mapping[str, Any]


class AppPublisher(Protocol):
    """Takes messages for one vhost of a broker, or for a spool."""

    pid: int  #: of the process that it works in

    @property
    def properties(self) -> Callable[[Properties], tuple[Any, str]]:
        """Makes properties as they travel, and an id; raises `TypeError` or `ValueError`."""

    def begin(self, message: OutgoingMessage) -> Future[str]:
        """The message's id once it is stored; fails where it is not."""

    def close(self) -> None:
        """Ends after all that was begun."""


#: From the kind and the settings of a connection, as plans have them, to its publisher.
OpenPublisher = Callable[[str, str], AppPublisher]


def open_publisher(kind: str, settings: str) -> AppPublisher:
    """The publisher of a real system: a thread. Raises `ConfigurationError` without one."""
    from actors.usercode import publisher_thread

    return publisher_thread.open_publisher(kind, settings)


class NamedOptions(TypedDict, total=False):
    """The keyword-only arguments of `put` and `put_sync`."""

    headers: Mapping[str, Any] | None
    message_id: str | None
    priority: int | None
    delay: float


class MessageOptions(NamedOptions, total=False):
    """All that may be said of a message beside its routing key and its body."""

    exchange: str
    properties: Properties | None
    mandatory: bool


class PutOptions(MessageOptions, total=False):
    """The same with the vhost that it goes to; None: the connection's own."""

    vhost: str | None


class Outlet:
    """A connection as handlers publish into it."""

    def put(
        self,
        routing_key: str,
        data: Any = None,
        serialized_data: bytes | str | None = None,
        exchange: str = "",
        vhost: str | None = None,
        properties: Properties | None = None,
        mandatory: bool = False,
        *,
        headers: Mapping[str, Any] | None = None,
        message_id: str | None = None,
        priority: int | None = None,
        delay: float = 0.0,
    ) -> Coroutine[Any, Any, str]:
        """Stores a message, `data` as JSON or `serialized_data` as it is, and returns its id.

        Returns once the broker confirms it, or the spool has it on disk. While the broker is
        away it waits, 30 seconds at the most. Without an `exchange` the routing key is the
        name of a queue, on a spool always. `delay` in seconds is at least kept, and on RabbitMQ
        rounded up to a step. `properties` have AMQP's names; a spool keeps `headers`,
        `message_id` and `priority` of them. With `mandatory`, a message that no queue takes is
        an error; without it, RabbitMQ drops it.

        To be awaited before the handler ends; `put_sync` is for where there is no `await`.
        Raises `PublishError` where it is not stored, or not proven to be; `ValueError` and
        `TypeError` for what cannot be a message.
        """
        options = PutOptions(
            exchange=exchange, vhost=vhost, properties=properties, mandatory=mandatory,
            headers=headers, message_id=message_id, priority=priority, delay=delay,
        )  # fmt: skip
        place = exchange if routing_key == "" else routing_key
        return begun(
            "put", place, "put_sync", self._put, routing_key, data, serialized_data, options
        )

    async def _put(
        self, routing_key: str, data: Any, given: bytes | str | None, options: PutOptions
    ) -> str:
        future = self._begin(routing_key, serialized(data, _encoded(given)), options)
        if not future.done():
            await asyncio.wrap_future(future)
        return future.result()

    def put_sync(
        self,
        routing_key: str,
        data: Any = None,
        serialized_data: bytes | str | None = None,
        exchange: str = "",
        vhost: str | None = None,
        properties: Properties | None = None,
        mandatory: bool = False,
        **named: Unpack[NamedOptions],
    ) -> str:
        """`put` for `def` handlers: the same, and the thread waits."""
        options = PutOptions(
            exchange=exchange, vhost=vhost, properties=properties, mandatory=mandatory, **named
        )
        body = serialized(data, _encoded(serialized_data))
        return self._begin(routing_key, body, options).result()

    def __getitem__(self, vhost: str) -> Outlet:
        """The same on another vhost of the broker."""
        return VhostOutlet(self, vhost)

    def _begin(self, routing_key: str, body: bytes, options: PutOptions) -> Future[str]:
        raise NotImplementedError


def _encoded(text: bytes | str | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


class VhostOutlet(Outlet):
    """An outlet with its vhost given."""

    def __init__(self, outlet: Outlet, vhost: str) -> None:
        self._outlet = outlet
        self._vhost = vhost

    def _begin(self, routing_key: str, body: bytes, options: PutOptions) -> Future[str]:
        vhost = options.get("vhost") or self._vhost
        options = PutOptions(**options)
        options["vhost"] = vhost
        return self._outlet._begin(routing_key, body, options)


class ConnectionOutlet(Outlet):
    """The outlet of one connection, opened by the first message, in each process anew."""

    def __init__(
        self, kind: str, settings: str, open_publisher: OpenPublisher = open_publisher
    ) -> None:
        self._kind = kind
        self._settings = settings
        self._open = open_publisher
        self._publishers: dict[str | None, AppPublisher] = {}  # by vhost
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of what is open, once what was begun is done; a later `put` opens it again."""
        with self._lock:
            publishers, self._publishers = self._publishers, {}
        for publisher in publishers.values():
            if publisher.pid == os.getpid():
                publisher.close()

    def _begin(self, routing_key: str, body: bytes, options: PutOptions) -> Future[str]:
        vhost = options.get("vhost")
        message = {name: value for name, value in options.items() if name != "vhost"}
        check_way(options.get("exchange", ""), routing_key)
        if vhost is not None:
            check_text("vhost", vhost)
        check_properties({} if (given := options.get("properties")) is None else given)
        with self._lock:
            publisher = self._publishers.get(vhost)
            if publisher is None or publisher.pid != os.getpid():
                publisher = self._open(self._kind, self._on_vhost(vhost))
                self._publishers[vhost] = publisher
            return publisher.begin(
                outgoing(publisher, routing_key, body, **cast(MessageOptions, message))
            )

    def _on_vhost(self, vhost: str | None) -> str:
        if vhost is None or not connector_of(self._kind).broker:
            return self._settings
        return json.dumps({**json.loads(self._settings), "vhost": vhost})
