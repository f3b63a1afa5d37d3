"""The connections that serve the routes, each with its prefetch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.api.connections import Connection, parse_connection, split_name
from actors.api.connector import connector_of
from actors.api.options import compile_table
from actors.api.route import ProcessHandler, Route
from actors.errors import InvalidConnection, InvalidRoute, NotSupported
from actors.logic.consuming.routing import Prefetch, prefetch_of
from actors.logic.settlement.failure import Policy
from actors.plan.settings import Settings

if TYPE_CHECKING:
    from actors.api.app import App

NO_CONNECTION = (
    "no connection is named: use --connection URL or CALLBOARD_CONNECTION, for example"
    " amqp://localhost/ or spool:"
)


#: Seconds that a task may take on a broker, which takes back what is unsettled for half an hour.
BROKER_TIMEOUT_S = 1500.0


@dataclass(frozen=True)
class ResolvedRoute:
    """A route with the connection that serves it."""

    route: Route
    connection: Connection
    vhost: str
    prefetch: Prefetch
    concurrency: int  #: handler processes, of its whole pool

    @property
    def table(self) -> dict[type[BaseException], Policy]:
        return compile_table(self.route.options.on_exception)


class RoutePlace(NamedTuple):
    """A route and where it is served."""

    route: Route
    connection: Connection
    vhost: str


def resolve(app: App, settings: Settings) -> list[ResolvedRoute]:
    """The routes to run, each with what serves it. Raises `ConfigurationError`."""
    if not app.routes and not app.timers:
        raise InvalidRoute("the app has neither a route nor a timer: nothing to do")
    for name in settings.routes:
        if name not in app.routes:
            raise InvalidRoute(
                f"--route: no route is named {name!r}; there are: {_names(app.routes)}"
            )
    chosen = [
        route for name, route in app.routes.items() if name in (settings.routes or app.routes)
    ]
    connections = resolve_connections(app, settings.connections)
    if chosen and not connections:
        raise InvalidConnection(NO_CONNECTION)
    places = [_place(route, _choose(route, connections)) for route in chosen]
    _check_pools(chosen)
    served = [_served(place, _concurrency(place, places), settings) for place in places]
    _check_queues(served)
    for route in chosen:
        _ = route.adapter  # made before the processes fork: they share its memory
        if isinstance(route.handler, ProcessHandler):
            route.handler.check()
    for place in places:
        _check_tasks(place)
    return served


def _check_tasks(place: RoutePlace) -> None:
    """Raises `NotSupported` where a task asks for more than its connection can do."""
    route, connection, _ = place
    connector = connector_of(connection.kind)
    if not (route.tasks and isinstance(route.handler, ProcessHandler)):
        return
    where = f"connection {connection.name} is of kind {connection.kind}, which"
    if not connector.takes_jobs:
        raise NotSupported(
            f"task {route.tasks[0]}: {where} takes no calls: tasks need spool: or amqp:"
        )
    for name, task in route.handler.tasks.items():
        wanted = None if connector.jobs else needs_store(task.options)
        if wanted:
            raise NotSupported(f"task {name}: {where} keeps no jobs: {wanted} a store, spool:")


def needs_store(options: Any) -> str:
    """What a task asks for that takes a store of jobs; empty: nothing."""
    if options.unique is not None:
        return "unique needs"
    if options.at_most_once:
        return "at_most_once needs"
    if options.timeout > BROKER_TIMEOUT_S:
        return f"a timeout of more than {BROKER_TIMEOUT_S:g} s, not {options.timeout:g}, needs"
    return ""


def resolve_connections(app: App, arguments: Iterable[str]) -> dict[str, Connection]:
    """The connections of the app, with each `[NAME=]URL` in the place of what it names."""
    left = dict(app.connections)
    wanted = {route.connection for route in app.routes.values()}
    resolved: dict[str, Connection] = {}
    for argument in arguments:
        name, url = split_name(argument)
        connection = parse_connection(url, name or None)
        if not name and len(app.connections) > 1:
            known = " or ".join(f"{own}=URL" for own in app.connections)
            raise InvalidConnection(f"--connection: the app has several; say which: {known}")
        replaced = name or next(iter(app.connections), "")
        if replaced in left:
            connection = left.pop(replaced).moved_to(connection)
        elif replaced in app.connections or connection.name in resolved:
            raise InvalidConnection(f"--connection: {connection.name!r} is given twice")
        elif app.connections and name not in wanted:
            raise InvalidConnection(
                f"--connection: the app has no connection {name!r}; there are:"
                f" {_names(app.connections)}"
            )
        resolved[connection.name] = connection
    return left | resolved


def _choose(route: Route, connections: dict[str, Connection]) -> Connection:
    problem = f"route {route.name}: "
    if route.connection:
        chosen = connections.get(route.connection)
        if chosen is None:
            raise InvalidConnection(
                f"{problem}connection {route.connection!r} does not exist; there are:"
                f" {_names(connections)}"
            )
        if route.type is not None and chosen.kind != route.type:
            raise InvalidRoute(
                f"{problem}is of type {route.type.name}, but connection {chosen.name!r} is"
                f" of kind {chosen.kind}"
            )
        return chosen
    fitting = [one for one in connections.values() if route.type is None or one.kind == route.type]
    if not fitting:
        raise InvalidRoute(
            f"{problem}no connection is of type {route.type.name if route.type else 'any'};"
            f" there are: {_names(connections)}"
        )
    if len(fitting) > 1:
        names = _names(one.name for one in fitting)
        raise InvalidRoute(
            f"{problem}several connections could serve it; set connection= to {names}"
        )
    return fitting[0]


def _place(route: Route, connection: Connection) -> RoutePlace:
    vhost = getattr(connection, "vhost", "")  # only a broker has any
    return RoutePlace(route, connection, (route.vhost or vhost) if vhost else "")


def _served(place: RoutePlace, concurrency: int, settings: Settings) -> ResolvedRoute:
    route, connection, vhost = place
    options = route.options
    prefetch = settings.prefetch or connection.prefetch_count
    numbers = prefetch_of(
        options.bulk_size, concurrency, options.in_flight, prefetch, route.is_async
    )
    return ResolvedRoute(route, connection, vhost, numbers, concurrency)


def _check_pools(routes: list[Route]) -> None:
    """A route without a pool has one to itself, of its own name."""
    names = {route.name for route in routes if not route.options.pool}
    for route in routes:
        if route.options.pool in names:
            raise InvalidRoute(
                f"route {route.name}: pool {route.options.pool!r} has the name of a route that"
                " is not in it: name the pool otherwise"
            )


def _concurrency(place: RoutePlace, places: list[RoutePlace]) -> int:
    """What the routes of its pool agree on: those that say nothing follow those that do."""
    if not (pool := place.route.options.pool):
        return place.route.options.concurrency
    mates = [route for route, *where in places if (*where,) == place[1:]]
    asked: dict[int, str] = {}
    for route in mates:
        if route.options.pool == pool and "concurrency" in route.options.model_fields_set:
            asked.setdefault(route.options.concurrency, route.name)
    if len(asked) > 1:
        (one, name), (other, another) = list(asked.items())[:2]
        raise InvalidRoute(
            f"routes {name} and {another} share pool {pool!r}, but their concurrency is"
            f" {one} and {other}: give one of them"
        )
    return next(iter(asked), place.route.options.concurrency)


def _check_queues(served: list[ResolvedRoute]) -> None:
    """A delivery belongs to one route."""
    taken: dict[tuple[str, str, str], str] = {}
    for one in served:
        for queue in one.route.queues:
            other = taken.setdefault((one.connection.name, one.vhost, queue), one.route.name)
            if other != one.route.name:
                raise InvalidRoute(
                    f"routes {other} and {one.route.name} both consume queue {queue!r} of"
                    f" connection {one.connection.name}"
                )


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
