"""A route: queues, the handler that serves them, and what the handler may be."""

from __future__ import annotations

import functools
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from actors.errors import InvalidRoute
from actors.logic.routing import MAX_QUEUE_NAME
from actors.message import Message
from actors.options import RouteOptions
from actors.topology import Queue

if TYPE_CHECKING:
    from actors.app import App


class RouteTypes(StrEnum):
    """Which connections a route may be served by; the values are their kinds."""

    AMQP_RABBITMQ = "amqp"
    SSE = "sse"
    SPOOL = "spool"
    HTTP = "http"  #: known, so that it can be refused by name


class HandlerActor:
    """The base of handlers with a life of their own: one instance in each handler process.

    What `on_start` raises is logged, nothing is fetched, and it is tried again on a new
    instance. Each of the three may be `def` or `async def`.
    """

    app: App  #: set before `on_start`, as is `log`
    log: logging.Logger

    def on_start(self) -> Awaitable[None] | None:
        """Before the first message, after the start-up hooks of the app."""
        return None

    def handle(self, messages: list[Any]) -> Awaitable[None] | None:
        """Handle one bulk, never empty."""
        raise NotImplementedError

    def on_stop(self) -> Awaitable[None] | None:
        """After the last message, before the shutdown hooks of the app."""
        return None


Handler = Callable[[list[Any]], Any] | type[HandlerActor]


@dataclass(frozen=True)
class Route:
    """What one decoration declares. `vhost` is kept as it was given, slashes included."""

    name: str
    queues: tuple[str, ...]
    handler: Handler
    type: RouteTypes | None = None  #: None: whatever its connection is
    connection: str = ""  #: empty: the only one
    vhost: str | None = None  #: None: that of its connection
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: RouteOptions = field(default_factory=RouteOptions)
    declared: tuple[Queue, ...] = ()  #: before it consumes, where it is served by a broker

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(_function(self.handler))

    @property
    def message_type(self) -> Any:
        """The `T` of a handler of `list[Message[T]]`; None where any JSON will do."""
        try:
            return payload_type(self.handler)
        except Exception:  # names that only type checkers import; `callboard check` tells
            return None

    @functools.cached_property
    def adapter(self) -> TypeAdapter[Any] | None:
        """What validates bodies; None where any JSON will do. Raises what pydantic raises."""
        wanted = self.message_type
        return None if wanted is None else TypeAdapter(wanted)


def payload_type(handler: Handler) -> Any:
    """The `T` of `list[Message[T]]`, or None. Raises what resolving the annotations raises."""
    hints = typing.get_type_hints(_function(handler))
    hints.pop("return", None)
    for hint in hints.values():
        for item in typing.get_args(hint)[:1]:
            origin = typing.get_origin(item)
            if isinstance(origin, type) and issubclass(origin, Message):
                payload = typing.get_args(item)[0]
                return None if payload is Any or isinstance(payload, typing.TypeVar) else payload
    return None


def checked_queues(routes: Any) -> tuple[tuple[str, ...], tuple[Queue, ...]]:
    """The queues of a route by name, and those to be declared. Raises `InvalidRoute`."""
    if callable(routes):
        raise InvalidRoute('a route needs its queues: @app.route(["queue"])')
    given = (routes,) if isinstance(routes, str | Queue) else tuple(routes)
    declared = tuple(queue for queue in given if isinstance(queue, Queue))
    queues = tuple(queue.name if isinstance(queue, Queue) else queue for queue in given)
    if not queues:
        raise InvalidRoute("a route needs at least one queue: routes is empty")
    for queue in queues:
        if not isinstance(queue, str) or not 0 < len(queue.encode()) <= MAX_QUEUE_NAME:
            raise InvalidRoute(
                f"routes: a queue is named by 1 to {MAX_QUEUE_NAME} bytes, not {queue!r}"
            )
        if queues.count(queue) > 1:
            raise InvalidRoute(f"routes: queue {queue!r} is named twice")
    return queues, declared


def check_handler(handler: Any) -> None:
    """Raise `InvalidRoute` for what cannot be called with a list of messages.

    Told here, for in a running system it would fail every message.
    """
    if isinstance(handler, type):
        _check_class(handler)
    elif isinstance(handler, HandlerActor):
        raise InvalidRoute(f"a handler is the class {type(handler).__name__}, not an instance")
    elif not callable(handler):
        raise InvalidRoute(
            f"a handler is a function, a HandlerActor class or a callable object, not {handler!r}"
        )
    function = _function(handler)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidRoute(f"handler {_name(handler)} yields: a handler returns")
    # A method that is found in its class takes the instance first.
    arguments = (None, None) if isinstance(handler, type) else (None,)
    if not _accepts(function if isinstance(handler, type) else handler, *arguments):
        raise InvalidRoute(f"handler {_name(handler)} must take one argument, the messages")
    if _asks_for_one(function):
        raise InvalidRoute(
            f"handler {_name(handler)} takes a list of messages, always: list[Message[…]]"
        )


def _asks_for_one(function: Any) -> bool:
    """Whether it is written for a message alone."""
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # names that only type checkers import
        return False
    hints.pop("return", None)
    kinds = [typing.get_origin(hint) or hint for hint in hints.values()]
    return any(isinstance(kind, type) and issubclass(kind, Message) for kind in kinds)


def _check_class(handler: type) -> None:
    if not issubclass(handler, HandlerActor):
        raise InvalidRoute(f"handler class {_name(handler)} does not derive from HandlerActor")
    if handler.handle is HandlerActor.handle:
        raise InvalidRoute(f"handler class {_name(handler)} has no method handle(messages)")
    if not _accepts(handler):
        raise InvalidRoute(f"handler class {_name(handler)} must be made without arguments")


def _accepts(function: Any, *arguments: Any) -> bool:
    try:
        # A decorator may pass more on than it takes: what counts is what it takes itself.
        inspect.signature(function, follow_wrapped=False).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # written in C, and silent about it
        return True
    return True


def _function(handler: Any) -> Any:
    """The function that runs: of a class its `handle`, of an object its `__call__`."""
    if isinstance(handler, type):
        return getattr(handler, "handle", None)
    if isinstance(handler, functools.partial):
        return _function(handler.func)
    return handler if inspect.isroutine(handler) else handler.__call__


def _name(handler: Any) -> str:
    return getattr(handler, "__qualname__", type(handler).__qualname__)
