"""A route: queues, the handler that serves them, and what the handler may be."""

from __future__ import annotations

import functools
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from actors.api.annotations import function_of, name_of, payload_type, positional, spelled
from actors.api.callables import accepts, method_fault, promised
from actors.api.connections import RouteTypes
from actors.api.options import RouteOptions
from actors.api.topology import Queue
from actors.errors import InvalidRoute
from actors.logic.messages.entry import broken_rule

if TYPE_CHECKING:
    from actors.api.app import App


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


class ProcessHandler:
    """The base of a handler that makes an object of each process to do its work.

    `for_process` gives an object with `on_start`, `handle` and `on_stop`, as a `HandlerActor`.
    """

    tasks: Mapping[str, Any]  #: its messages are jobs of these, by name
    is_async: bool  #: whether all of them are coroutine functions

    def __call__(self, messages: list[Any]) -> Any:
        """Nobody calls it: a process has its own."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises `ConfigurationError` for what every message would fail by."""

    def for_process(self, app: App, watch: Any) -> Any:
        """The object of this process, watched by an `actors.usercode.watch.Watch`."""
        raise NotImplementedError


#: The annotation of a handler names what its module defines later.
UNKNOWN = object()

Handler = Callable[[list[Any]], Any] | type[HandlerActor]


@dataclass(frozen=True)
class Route:
    """One decorated handler. `vhost` is kept as it was given, slashes included."""

    name: str
    queues: tuple[str, ...]
    handler: Handler
    type: RouteTypes | None = None  #: None: whatever its connection is
    connection: str = ""  #: empty: the only one
    vhost: str | None = None  #: None: that of its connection
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: RouteOptions = field(default_factory=RouteOptions)
    declared: tuple[Queue, ...] = ()  #: before it consumes, where it is served by a broker
    asked: Any = UNKNOWN  #: the type of bodies, as far as it is known where it is declared

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks whose jobs its messages are; empty: they are no jobs."""
        return tuple(self.handler.tasks) if isinstance(self.handler, ProcessHandler) else ()

    @property
    def is_async(self) -> bool:
        if isinstance(self.handler, ProcessHandler):
            return self.handler.is_async
        return inspect.iscoroutinefunction(function_of(self.handler))

    @functools.cached_property
    def message_type(self) -> Any:
        """The `T` of a handler of `list[Message[T]]`; None where any JSON will do.

        Raises `InvalidRoute` where the annotation cannot be resolved.
        """
        return payload_type(self.handler) if self.asked is UNKNOWN else self.asked

    @functools.cached_property
    def adapter(self) -> TypeAdapter[Any] | None:
        """Validates bodies; None where any JSON will do. Raises `InvalidRoute`."""
        try:
            wanted = self.message_type
            return None if wanted is None else built(wanted)
        except InvalidRoute as error:
            raise InvalidRoute(f"route {self.name}: {error}") from None


def built(wanted: Any) -> TypeAdapter[Any]:
    """A validator of a type. Raises `InvalidRoute` where pydantic cannot make one."""
    try:
        adapter = TypeAdapter(wanted)
        adapter.rebuild(raise_errors=True)  # a name that a model looks up late is looked up now
    except Exception as error:  # a type may bring code of its own
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidRoute(
            f"pydantic cannot validate {spelled(wanted)}: {cause.rstrip('.')}. Use a pydantic"
            " model, a dataclass, or a TypedDict of typing_extensions"
        ) from None
    return adapter


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
        if rule := broken_rule(queue):
            raise InvalidRoute(f"routes: a queue is named by {rule}, not {queue!r}")
        if queues.count(queue) > 1:
            raise InvalidRoute(f"routes: queue {queue!r} is named twice")
    return queues, declared


def check_handler(handler: Any) -> None:
    """Raise `InvalidRoute` for what cannot be called with a list of messages.

    Told here, for in a running system it would fail every message.
    """
    if typing.get_origin(handler) is not None:
        raise InvalidRoute(f"a handler is a class, not {spelled(handler)}: derive a class from it")
    if isinstance(handler, type):
        _check_class(handler)
    elif isinstance(handler, HandlerActor):
        raise InvalidRoute(f"a handler is the class {type(handler).__name__}, not an instance")
    elif not callable(handler):
        raise InvalidRoute(
            f"a handler is a function, a HandlerActor class or a callable object, not {handler!r}"
        )
    function = function_of(handler)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidRoute(f"handler {name_of(handler)} yields: a handler returns")
    called, arguments = positional(handler)
    if not accepts(called, *arguments):
        raise InvalidRoute(f"handler {name_of(handler)} must take one argument, the messages")
    if value := promised(function):
        raise InvalidRoute(
            f"handler {name_of(handler)} returns {value}: a handler returns nothing. To publish"
            " something use put, to settle a message its accept(), reject() or dead_letter()"
        )


def _check_class(handler: type) -> None:
    if not issubclass(handler, HandlerActor):
        raise InvalidRoute(f"handler class {name_of(handler)} does not derive from HandlerActor")
    if handler.handle is HandlerActor.handle:
        raise InvalidRoute(f"handler class {name_of(handler)} has no method handle(messages)")
    if not accepts(handler):
        raise InvalidRoute(f"handler class {name_of(handler)} must be made without arguments")
    for name in ("on_start", "on_stop"):
        if problem := method_fault(handler, name):
            raise InvalidRoute(f"handler class {name_of(handler)}: {name} {problem}")
