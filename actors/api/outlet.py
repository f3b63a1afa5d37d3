"""Putting messages into the connections of an app, from its handlers."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from actors.api.connector import connector_of
from actors.api.puts import begun
from actors.logic.entry import Outgoing, check_properties, check_text, check_way, serialized

Properties = Mapping[str, Any]


class Way(Protocol):
    """Takes messages for one vhost of a broker, or for a spool."""

    pid: int  #: of the process that it works in

    @property
    def properties(self) -> Callable[[Properties], Any]:
        """Makes properties as they travel; raises `TypeError` or `ValueError`."""

    def begin(self, message: Outgoing) -> Future[None]:
        """Done once the message is stored; fails where it is not."""

    def close(self) -> None:
        """After all that was begun."""


#: From the kind and the settings of a connection, as plans have them, to the way there.
OpenWay = Callable[[str, str], Way]


def open_lane(kind: str, settings: str) -> Way:
    """The way of a real system: a thread. Raises `ConfigurationError` where there is none."""
    from actors.usercode import publisher_thread as lane

    return lane.open_lane(kind, settings)


class Outlet:
    """What handlers put messages into: a connection."""

    def put(
        self,
        routing_key: str,
        data: Any = None,
        serialized_data: bytes | str | None = None,
        exchange: str = "",
        vhost: str | None = None,
        properties: Properties | None = None,
        mandatory: bool = False,
    ) -> Coroutine[Any, Any, None]:
        """Store a message: `data` as JSON, or `serialized_data` as it is.

        Returns once the broker confirms it, or the spool has it on disk. While the broker is
        away it waits, 30 seconds at the most. Without an `exchange` the routing key is the
        name of a queue, on a spool always. `properties` have AMQP's names; a spool keeps
        `headers`, `message_id` and `priority` of them. With `mandatory`, a message that no
        queue takes is an error; without it, RabbitMQ drops it.

        To be awaited before the handler ends; `put_sync` is for where there is no `await`.
        Raises `PublishError` where it is not stored, or not proven to be; `ValueError` and
        `TypeError` for what cannot be a message.
        """
        return begun(
            "put", exchange if routing_key == "" else routing_key, "put_sync", self._put,
            routing_key, data, serialized_data, exchange, vhost, properties, mandatory,
        )  # fmt: skip

    async def _put(
        self,
        routing_key: str,
        data: Any,
        serialized_data: bytes | str | None,
        exchange: str,
        vhost: str | None,
        properties: Properties | None,
        mandatory: bool,
    ) -> None:
        body = serialized(data, _encoded(serialized_data))
        future = self._begin(
            vhost, routing_key, body, exchange, {} if properties is None else properties, mandatory
        )
        if not future.done():
            await asyncio.wrap_future(future)
        future.result()

    def put_sync(
        self,
        routing_key: str,
        data: Any = None,
        serialized_data: bytes | str | None = None,
        exchange: str = "",
        vhost: str | None = None,
        properties: Properties | None = None,
        mandatory: bool = False,
    ) -> None:
        """`put` for `def` handlers: the same, and the thread waits."""
        body = serialized(data, _encoded(serialized_data))
        self._begin(
            vhost, routing_key, body, exchange, {} if properties is None else properties, mandatory
        ).result()

    def __getitem__(self, vhost: str) -> Outlet:
        """The same on another vhost of the broker."""
        return VhostOutlet(self, vhost)

    def _begin(self, vhost: str | None, *message: Any) -> Future[None]:
        raise NotImplementedError


def _encoded(text: bytes | str | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


class VhostOutlet(Outlet):
    """An outlet with its vhost given."""

    def __init__(self, outlet: Outlet, vhost: str) -> None:
        self._outlet = outlet
        self._vhost = vhost

    def _begin(self, vhost: str | None, *message: Any) -> Future[None]:
        return self._outlet._begin(vhost or self._vhost, *message)


class ConnectionOutlet(Outlet):
    """The outlet of one connection, opened by the first message, in each process anew."""

    def __init__(self, kind: str, settings: str, open_way: OpenWay = open_lane) -> None:
        self._kind = kind
        self._settings = settings
        self._open_way = open_way
        self._ways: dict[str | None, Way] = {}  # by vhost
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of what is open, once what was begun is done; a later `put` opens it again."""
        with self._lock:
            ways, self._ways = self._ways, {}
        for way in ways.values():
            if way.pid == os.getpid():
                way.close()

    def _begin(self, vhost: str | None, *message: Any) -> Future[None]:
        routing_key, body, exchange, properties, mandatory = message
        check_way(exchange, routing_key)
        if vhost is not None:
            check_text("vhost", vhost)
        check_properties(properties)
        if not isinstance(mandatory, bool):
            raise TypeError(f"mandatory must be True or False, not {type(mandatory).__name__}")
        with self._lock:
            way = self._ways.get(vhost)
            if way is None or way.pid != os.getpid():
                way = self._ways[vhost] = self._open_way(self._kind, self._on_vhost(vhost))
            packed = way.properties(properties)
            return way.begin(Outgoing(routing_key, body, packed, exchange, mandatory))

    def _on_vhost(self, vhost: str | None) -> str:
        if vhost is None or not connector_of(self._kind).broker:
            return self._settings
        return json.dumps({**json.loads(self._settings), "vhost": vhost})
