"""The declaration of tasks: each is a route on its queue, in processes that tasks share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from actors.api.options import RouteOptions
from actors.api.route import Route
from actors.errors import InvalidRoute
from actors.tasks.options import task_options
from actors.tasks.task import Declared, Task, check_name, declared
from actors.tasks.worker import QueueHandler

if TYPE_CHECKING:
    from actors.api.app import App

#: The pool of tasks that name neither a pool nor a concurrency.
POOL = "tasks"
#: Processes of that pool at the most.
PROCESSES_MAX = 4


def declare(
    app: App,
    name: str,
    thing: Any,
    given: Mapping[str, Any],
    *,
    bulk: int = 1,
    flush: float = 0.01,
    is_bulk: bool = False,
) -> Any:
    """A task of an app, with its route; of a class, the class itself.

    Raises `InvalidRoute` and `ConfigurationError`.
    """
    check_name(name)
    if name in app.tasks:
        raise InvalidRoute(f"task {name}: there is one of this name")
    task = declared(name, thing, task_options(name, given), is_bulk=is_bulk)
    route = app.routes.get(task.queue)
    if route is None:
        handler = QueueHandler(task.queue)
        options = _route_options(task, bulk if is_bulk else 1, flush)
        route = Route(
            task.queue, (task.queue,), handler, connection=task.options.connection,
            options=options, asked=None,
        )  # fmt: skip
        app.routes[task.queue] = route
    elif isinstance(route.handler, QueueHandler):
        handler = route.handler
        route = replace(route, options=_agreed(route, handler, task, is_bulk=is_bulk))
        app.routes[task.queue] = route
    else:
        raise InvalidRoute(f"task {name}: queue {task.queue} is that of a route: set queue=")
    handler.tasks[name] = task
    made: Task[..., Any] = Task(app, task)
    app.tasks[name] = made
    if task.actor is None:
        return made
    task.actor.task = made
    return task.actor


def _route_options(task: Declared, bulk: int, flush: float) -> RouteOptions:
    own = task.options
    is_alone = own.concurrency is not None and not own.pool
    in_flight = 1 if own.at_most_once or (bulk > 1 and own.in_flight is None) else own.in_flight
    if own.in_flight is None and not task.is_async:
        in_flight = 1
    values: dict[str, Any] = {
        "bulk_size": bulk,
        "bulk_flush_interval": flush,
        "in_flight": in_flight,
        "timeout": own.timeout + own.grace,
        "max_crashes": 1 if own.at_most_once else own.max_crashes,
        "max_messages": own.max_messages,
        "max_memory": own.max_memory,
        "requires": own.requires,
        "pool": "" if is_alone else own.pool or POOL,
    }
    if own.on_exception is not None and not own.at_most_once:
        values["on_exception"] = own.on_exception  # of processes that had to be killed, or died
    if own.concurrency is not None:
        values["concurrency"] = own.concurrency
    elif not own.pool:
        values["concurrency"] = processes()
    return RouteOptions(**values)


def processes() -> int:
    """Processes that tasks share: as many as cores, four at the most."""
    return max(1, min(PROCESSES_MAX, len(os.sched_getaffinity(0))))


def _agreed(route: Route, handler: QueueHandler, task: Declared, *, is_bulk: bool) -> RouteOptions:
    """The options of a queue that serves several tasks: its processes have to be one."""
    first = next(iter(handler.tasks.values()))
    if is_bulk or first.is_bulk:
        raise InvalidRoute(
            f"task {task.name}: a bulk task has a queue to itself, and {task.queue} is also that"
            f" of {first.name}"
        )
    for field in ("concurrency", "in_flight", "pool", "at_most_once", "connection", "requires"):
        one, other = getattr(first.options, field), getattr(task.options, field)
        if one != other:
            raise InvalidRoute(
                f"tasks {first.name} and {task.name} share queue {task.queue}, but their {field}"
                f" is {one!r} and {other!r}: give one of them a queue"
            )
    options = route.options
    is_async = first.is_async and task.is_async
    return options.model_copy(
        update={
            "timeout": max(options.timeout, task.options.timeout + task.options.grace),
            "in_flight": task.options.in_flight or (None if is_async else 1),
        }
    )
