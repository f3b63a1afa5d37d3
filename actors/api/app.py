"""The app that a user declares: connections, routes, hooks, timers, and the state of a process."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from actors.api.annotations import Unresolved, name_of, payload_type
from actors.api.callables import fault
from actors.api.connections import AMQPConnection, Connection, RouteTypes, SSEConnection
from actors.api.options import AMQPRouteOptions, FailCallback, RouteOptions, TimerOptions
from actors.api.outlet import ConnectionOutlet, OpenPublisher, Outlet, open_publisher
from actors.api.route import Handler, Route, check_handler, checked_queues
from actors.api.topology import Queue
from actors.errors import ConfigurationError, Exit, InvalidConnection, InvalidRoute
from actors.log import own_logger
from actors.logic.consuming.routing import numbered
from actors.logic.messages.entry import broken_text

if TYPE_CHECKING:
    from actors.tasks.job import Job
    from actors.tasks.jobs import Jobs
    from actors.tasks.options import CallKeywords, TaskKeywords
    from actors.tasks.task import BulkTaskDecorator, NewCall, Task, TaskDecorator
    from actors.tasks.topics import Topic, Topics


class State(MutableMapping[str, Any]):
    """A mapping that is open to changes until the start-up hooks have run.

    Changing it later raises RuntimeError.
    """

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.frozen = False

    def freeze(self) -> None:
        """The start-up hooks have run: from now on the state is read."""
        self.frozen = True

    def __getitem__(self, key: str) -> Any:
        return self.state[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._check_open(key)
        self.state[key] = value

    def __delitem__(self, key: str) -> None:
        self._check_open(key)
        del self.state[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)

    def __bool__(self) -> bool:
        return True

    # A mapping equals every other of the same content, and cannot be hashed; an app is itself.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def _check_open(self, key: str) -> None:
        if self.frozen:
            raise RuntimeError(f"app[{key!r}]: the app has started, its state is frozen")


H = TypeVar("H", bound=Handler)
Hook = Callable[["App"], Any]
HookT = TypeVar("HookT", bound=Hook)

#: Whether an app is being imported just now, as part of running or checking it.
loading: ContextVar[bool] = ContextVar("loading", default=False)


@dataclass(frozen=True)
class Timer:
    """A function that the clock runs every so many seconds."""

    seconds: float
    handler: Hook
    options: TimerOptions


class App(State):
    """An application: `App(host=…, user=…, password=…)`, or `App(connections=[…])`.

    The first form takes every field of `AMQPConnection`. Without any connection, the one
    to use is named where the app is run. As a mapping it is the state of the process that
    it is in. Raises `ConfigurationError`.
    """

    def __init__(
        self,
        host: str | None = None,
        user: str | None = None,
        password: str | None = None,
        prefetch_count: int | None = None,
        *,
        connections: Iterable[Connection] = (),
        version: str = "",
        **amqp: Any,
    ) -> None:
        amqp |= {"host": host, "user": user, "password": password, "prefetch_count": prefetch_count}
        super().__init__()
        given = {field: value for field, value in amqp.items() if value is not None}
        declared = list(connections)
        if given and declared:
            raise InvalidConnection(f"give {next(iter(given))}= or connections=, not both")
        self.connections: dict[str, Connection] = {}
        self._outlets: dict[str, ConnectionOutlet] = {}
        for connection in [AMQPConnection(**given)] if given else declared:
            self._add_connection(connection)
        self.version = version
        self.routes: dict[str, Route] = {}
        self.startup_hooks: list[Hook] = []
        self.shutdown_hooks: list[Hook] = []
        self.timers: list[Timer] = []
        self.import_threads: tuple[str, ...] = ()  #: by name; a fork does not have them
        self.amqp = AMQPRoutes(self)
        self.tasks: dict[str, Task[..., Any]] = {}
        #: (name, kind, settings) of each connection, in a process of a running system.
        self.places: tuple[tuple[str, str, str], ...] = ()

    def _add_connection(self, connection: Connection) -> None:
        if not isinstance(connection, Connection):
            raise InvalidConnection(
                f"connections: a {type(connection).__name__} is no connection: give"
                " AMQPConnection(…), SSEConnection(…) or SpoolConnection(…)"
            )
        if connection.name in self.connections:
            raise InvalidConnection(f"two connections are named {connection.name!r}")
        if not connection.name:
            names = numbered(connection.default_name)
            connection.name = next(name for name in names if name not in self.connections)
        self.connections[connection.name] = connection

    # ── routes ─────────────────────────────────────────────────────────────────

    def route(
        self,
        routes: Iterable[str | Queue],
        type: RouteTypes | None = None,
        *,
        vhost: str | None = None,
        connection: str | Connection | None = None,
        headers: Mapping[str, str] | None = None,
        options: Mapping[Any, Any] | RouteOptions | None = None,
        name: str | None = None,
    ) -> Callable[[H], H]:
        """Serve queues with what is decorated: a function, a class or a callable object.

        Returned unchanged, so that several decorations give several routes.
        Raises `InvalidRoute`, and TypeError where `type` is none of `RouteTypes`.
        """
        if type is not None and not isinstance(type, RouteTypes):
            raise TypeError(f"type: must be one of RouteTypes, not {type!r}")
        queues, declared = checked_queues(routes)
        if type is RouteTypes.HTTP:
            raise InvalidRoute(f"route {queues[0]}: HTTP routes are not taken over")
        _check_texts({"vhost": vhost, "name": name, **(headers or {})}, queues[0])
        try:
            resolved = _route_options(options)
            wanted = self._connection_name(connection or getattr(resolved, "connection", None))
        except ConfigurationError as error:
            raise InvalidRoute(f"route {name or queues[0]}: {error}") from None

        def declare(handler: H) -> H:
            route = Route(
                name or "", queues, handler, type, wanted, vhost, dict(headers or {}), resolved,
                declared,
            )  # fmt: skip
            route = replace(route, name=self._free_name(route))
            try:
                check_handler(handler)
                route = replace(route, asked=payload_type(handler, sys._getframe(1)))
            except Unresolved:
                pass  # it may name what its module defines below
            except InvalidRoute as error:
                raise InvalidRoute(f"route {route.name}: {error}") from None
            self.routes[route.name] = route
            return handler

        return declare

    def _connection_name(self, connection: str | Connection | None) -> str:
        if isinstance(connection, Connection):
            if not any(connection is own for own in self.connections.values()):
                raise InvalidConnection("connection: is none of the connections of the app")
            return connection.name
        return connection or ""

    def _free_name(self, route: Route) -> str:
        queue, vhost, connection = route.queues[0], route.vhost or "", route.connection
        marks = (vhost, connection, f"{connection}{vhost}")
        names = [queue, *(f"{queue}@{mark}" for mark in marks if mark)]
        wanted = [route.name] if route.name else names
        free = next((name for name in wanted if name not in self.routes), None)
        if free is None:
            raise InvalidRoute(f"route {route.name or queue}: there is one of this name: set name=")
        return free

    # ── tasks ──────────────────────────────────────────────────────────────────

    def task(self, name: str, **options: Unpack[TaskKeywords]) -> TaskDecorator:
        """Declares what is decorated as a task that callers call by this name: a function,
        `def` or `async def`, or a `TaskActor` class. Returns a `Task`.

            @app.task("resize", timeout=60, retry=Retry(attempts=3))
            def resize(path: str, width: int = 800) -> str: ...

        Arguments and result are of the types that it names, and travel as JSON; a parameter of
        the type `JobContext` gets the job. The options are those of `TaskOptions`. Raises
        `InvalidRoute` and `ConfigurationError`.
        """
        from actors.tasks.declare import declare
        from actors.tasks.task import check_name

        check_name(name)
        return cast("TaskDecorator", lambda function: declare(self, name, function, dict(options)))

    def bulk_task(
        self, name: str, *, bulk: int = 32, flush: float = 0.01, **options: Unpack[TaskKeywords]
    ) -> BulkTaskDecorator:
        """Declares a task whose callers call with one argument, while the function gets a list of
        up to `bulk` of them, and returns a list of as many results or exceptions.

        A list that is not full waits `flush` seconds. Raises `InvalidRoute` and
        `ConfigurationError`.
        """
        from actors.tasks.declare import declare
        from actors.tasks.task import check_name

        check_name(name)
        return cast(
            "BulkTaskDecorator",
            lambda function: declare(
                self, name, function, dict(options), bulk=bulk, flush=flush, is_bulk=True
            ),
        )

    @functools.cached_property
    def jobs(self) -> Jobs:
        """The jobs of the app's tasks: `get`, `list`, `count`, `send_many`, `pause`, `resume`."""
        from actors.tasks.jobs import Jobs

        return Jobs(self)

    async def send(self, name: str, arguments: Any, **options: Unpack[CallKeywords]) -> Job[Any]:
        """Puts a job of a task by its name: its code is not needed here. An object is the
        arguments by name, a list those in order, any other value the only one.

            job = await app.send("resize", {"path": "a.png"}, delay=60)
        """
        return await self.jobs.send(name, arguments, **options)

    def send_sync(self, name: str, arguments: Any, **options: Unpack[CallKeywords]) -> Job[Any]:
        """`send` where there is no `await`."""
        return self.jobs.send_sync(name, arguments, **options)

    async def gather(self, *calls: NewCall[Any], return_exceptions: bool = False) -> Sequence[Any]:
        """The results of many calls at once, in their order: `app.gather(a.job(1), b.job(2))`.

        With `return_exceptions` an exception stands in the place of a result; without it, the
        first is raised and the other calls are withdrawn.
        """
        from actors.tasks.jobs import gather

        return await gather(self.jobs, calls, return_exceptions=return_exceptions)

    def topic(self, name: str, *, connection: str = "") -> Topic:
        """A topic: a named stream of events for whoever listens, with `publish` and `subscribe`.

        Raises ValueError where its name is none.
        """
        from actors.tasks.topics import Topic

        return Topic(self.topics, name, connection)

    @functools.cached_property
    def topics(self) -> Topics:
        """The connections of the app's topics."""
        from actors.tasks.topics import Topics

        return Topics(self)

    async def aclose(self) -> None:
        """Lets go of the connections that calls and puts have opened, on an event loop."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Lets go of the connections that calls and puts have opened; a later one opens them
        again."""
        self.close_outlets()
        self._close_callers()

    def _close_callers(self) -> None:
        if "jobs" in self.__dict__:
            self.jobs.close()
        if "topics" in self.__dict__:
            self.topics.close()

    # ── hooks, timers, callbacks ───────────────────────────────────────────────

    def run_on_startup(self, hook: HookT) -> HookT:
        """Run it with the app in every process, before its first message.

        Raises `ConfigurationError`.
        """
        _check_hook("run_on_startup", hook)
        self.startup_hooks.append(hook)
        return hook

    def run_on_shutdown(self, hook: HookT) -> HookT:
        """Run it with the app in every process, after its last message.

        Raises `ConfigurationError`.
        """
        _check_hook("run_on_shutdown", hook)
        self.shutdown_hooks.append(hook)
        return hook

    def run_every(
        self, seconds: float, options: Mapping[Any, Any] | None = None
    ) -> Callable[[HookT], HookT]:
        """Run it with the app at once and every so many seconds, in the clock's process.

        Raises `ConfigurationError`.
        """
        if callable(seconds):
            raise ConfigurationError("run_every needs its seconds: @app.run_every(60.0)")
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not 0 < seconds < float("inf"):
            raise ConfigurationError(f"run_every: seconds must be more than 0, not {seconds!r}")
        resolved = TimerOptions(**_by_keyword(options))

        def declare(hook: HookT) -> HookT:
            _check_hook("run_every", hook)
            self.timers.append(Timer(float(seconds), hook, resolved))
            return hook

        return declare

    def fail_callbacks(self, connection: str) -> list[FailCallback]:
        """What is to be called as `callback(error, retries)` when this one cannot be made."""
        sources: list[Connection | RouteOptions] = [
            route.options
            for route in self.routes.values()
            if route.connection == connection
            or (not route.connection and len(self.connections) < 2)
        ]
        sources += [self.connections[connection]] if connection in self.connections else []
        found = [source.connection_fail_callback for source in sources]
        return list(dict.fromkeys(callback for callback in found if callback is not None))

    # ── putting messages into connections ──────────────────────────────────────

    def connection(self, name: str) -> Outlet:
        """The connection of this name, to put messages into. Raises `InvalidConnection`."""
        if name in self.connections:
            return self.connections[name]
        if name in self._outlets:
            return self._outlets[name]
        known = ", ".join({**self.connections, **self._outlets}) or "none"
        raise InvalidConnection(f"no connection is named {name!r}; there are: {known}")

    def open_outlets(
        self, places: Iterable[tuple[str, str, str]], open_publisher: OpenPublisher = open_publisher
    ) -> None:
        """In a process of a running system: (name, kind, settings) of where connections are."""
        places = tuple(places)
        self._outlets = {
            name: ConnectionOutlet(kind, settings, open_publisher)
            for name, kind, settings in places
        }
        for name, connection in self.connections.items():
            connection.lead_to(self._outlets.get(name))
        self.places = places
        self._close_callers()  # a later call opens what is there by then

    def close_outlets(self) -> None:
        """Wait for what was put, and let go of the connections that it went by."""
        for outlet in self._outlets.values():
            outlet.close()

    # ── running ────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Run this app until it is told to stop, then exit the process with its exit code.

        For the script that Python was started with; while the script is only imported, by
        `callboard run` for one, it does nothing.
        """
        if loading.get():
            return
        try:
            from actors.cli import invoke

            sys.exit(invoke(["run", self._import_string()]))
        except ConfigurationError as error:
            sys.stderr.write(f"callboard: {error}\n")
            sys.exit(Exit.CONFIG)

    def _import_string(self) -> str:
        for name, value in vars(sys.modules["__main__"]).items():
            if value is self:
                return f"__main__:{name}"
        raise ConfigurationError(
            "app.run() finds the app under no name of the script: keep it in a global name,"
            " or use `callboard run MODULE:APP`"
        )


class SSEApplication(App):
    """An app on one server of event streams; its routes are paths."""

    def __init__(
        self,
        url: str,
        logger: logging.Logger | None = None,
        user: str | None = None,
        password: str | None = None,
        headers: Mapping[str, str] | None = None,
        **sse: Any,
    ) -> None:
        sse |= {"user": user or "", "password": password or "", "headers": dict(headers or {})}
        super().__init__(connections=[SSEConnection(url, **sse)])
        self.logger = logger or own_logger("actors")


class AMQPRoutes:
    """`app.amqp`: routes that only a RabbitMQ broker serves."""

    def __init__(self, app: App) -> None:
        self._app = app

    def consume(
        self,
        routes: Iterable[str | Queue],
        vhost: str | None = None,
        connection: str | Connection | None = None,
        options: AMQPRouteOptions | None = None,
        *,
        name: str | None = None,
    ) -> Callable[[H], H]:
        """`app.route` with the type RouteTypes.AMQP_RABBITMQ."""
        return self._app.route(
            routes, RouteTypes.AMQP_RABBITMQ,
            vhost=vhost, connection=connection, options=options, name=name,
        )  # fmt: skip


def _check_texts(values: Mapping[str, Any], queue: str) -> None:
    for key, value in values.items():
        if value is not None and not isinstance(value, str):  # not shown: it may be a secret
            raise InvalidRoute(f"route {queue}: {key} must be a str, not {type(value).__name__}")
    vhost = values["vhost"]
    if vhost is not None and (rule := broken_text(vhost)):
        raise InvalidRoute(f"route {queue}: vhost must be {rule}, not {vhost!r}")


def _check_hook(place: str, hook: Any) -> None:
    if problem := fault(hook, "app"):
        name = f" {name_of(hook)}" if callable(hook) else ""
        raise ConfigurationError(f"{place}:{name} {problem}")


def _route_options(options: Mapping[Any, Any] | RouteOptions | None) -> RouteOptions:
    if isinstance(options, RouteOptions):
        return options
    return AMQPRouteOptions(**_by_keyword(options))


def _by_keyword(options: Mapping[Any, Any] | None) -> dict[str, Any]:
    """Options by their names as text, which those of `Options` and `Events` are."""
    if not isinstance(options, Mapping | None):
        raise ConfigurationError(f"options must be a mapping, {{Options.…: …}}, not {options!r}")
    return {str(key): value for key, value in (options or {}).items()}
