"""Publishing from user code into the connections of its app, each put answered for by its call."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextvars import ContextVar, Token
from typing import Any, Protocol, TypedDict, TypeVar, Unpack, cast

from actors.api.connector import connector_of
from actors.errors import InvalidHandler
from actors.logic.messages.entry import (
    OutgoingMessage,
    check_properties,
    check_text,
    check_way,
    outgoing,
    serialized,
)
from actors.logic.settlement.failure import describe

T = TypeVar("T")


class Puts:
    """The puts that one call of user code has begun."""

    __slots__ = ("_begun", "_task")

    def __init__(self, task: asyncio.Task[Any] | None = None) -> None:
        """With `task`, not what others on its loop put: a hook may start one that stays."""
        self._begun: list[_Put] = []
        self._task = task

    def enter(self) -> Token[Puts | None]:
        """From now on puts of this context are among them."""
        return _answering.set(self)

    def check(self) -> None:
        """At the end of the call. Raises InvalidHandler where one was not awaited."""
        problems = [problem for put in self._begun if (problem := put.problem())]
        if problems:
            raise InvalidHandler("; ".join(problems))

    def forget(self) -> None:
        """At the end of a call that failed by itself."""
        for put in self._begun:
            put.problem()

    def add(self, put: _Put) -> None:
        own, task = self._task, _task()
        if own and task and task is not own and task.get_loop() is own.get_loop():
            return
        self._begun.append(put)


#: The puts of the call that is running in this context.
_answering: ContextVar[Puts | None] = ContextVar("answering", default=None)


def leave(token: Token[Puts | None]) -> None:
    """Puts of this context are no longer among those of the call that entered it."""
    _answering.reset(token)


def begun(
    what: str, place: object, instead: str, store: Callable[..., Coroutine[Any, Any, T]], *args: Any
) -> Coroutine[Any, Any, T]:
    """`store(*args)`, which the call that runs in this context is to await: a put to a place,
    whatever its caller has named.

    `instead` is what a function calls that cannot await. To be called by what users call.
    """
    put = _Put()
    coroutine: Any = put.run(store, *args)
    coroutine.__qualname__ = what  # for Python's own warning
    puts = _answering.get()
    if puts is not None:
        caller = sys._getframe(2)
        shown = repr(place) if isinstance(place, str) else type(place).__name__
        put.what = f"{caller.f_code.co_filename}:{caller.f_lineno}: {what} to {shown}"
        put.instead = instead
        put.coroutine = coroutine
        puts.add(put)
    return coroutine  # type: ignore[no-any-return]


class _Put:
    __slots__ = ("coroutine", "error", "instead", "started", "task", "what")

    def __init__(self) -> None:
        self.coroutine: Coroutine[Any, Any, Any]
        self.what = ""
        self.instead = ""
        self.started = False
        self.task: asyncio.Task[Any] | None = None  #: that it ran in
        self.error: BaseException | None = None

    async def run(self, store: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        self.started, self.task = True, _task()
        try:
            return await store(*args)
        except Exception as error:
            self.error = error
            raise

    def problem(self) -> str:
        """What is wrong with it at the end of the call; empty: nothing."""
        state = inspect.getcoroutinestate(self.coroutine)
        if state == inspect.CORO_CREATED:
            self.coroutine.close()
        if not self.started:
            fault = "was never awaited"
        elif state != inspect.CORO_CLOSED:
            fault = "was still under way when its handler ended"
        elif self.error and _unseen(self.task):
            fault = f"failed, and nobody awaited it ({describe(self.error)})"
        else:
            return ""
        return f"{self.what} {fault}: await it, or use {self.instead} where there is no await"


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return None


def _unseen(task: asyncio.Task[Any] | None) -> bool:
    """Whether nobody has asked what a task came to."""
    return bool(getattr(task, "_log_traceback", False))


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
