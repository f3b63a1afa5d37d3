"""The plan that is played, made of an app and its settings, with what deserves a warning."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.api.connector import connector_of
from actors.api.options import Actions
from actors.api.route import ProcessHandler
from actors.api.state_dir import state_dir
from actors.errors import HandlerCrashed
from actors.log import own_logger
from actors.logic.settlement.failure import DEAD_LETTER, Outcome, Policy, policy_for
from actors.logic.supervision.placement import Offer, parse_offers, satisfies, spelled
from actors.plan.plan import NodePlan, Outlets, PipelinePlan, Plan, RoutePlan
from actors.plan.resolve import NO_CONNECTION, ResolvedRoute, resolve, resolve_connections
from actors.plan.settings import Settings

if TYPE_CHECKING:
    from actors.api.app import App
    from actors.api.route import Route

logger = own_logger("actors")

IDLE_MEMORY = 64 * 1024 * 1024  #: bytes that a handler's process holds before its first message
RABBITMQ_PATIENCE = 1800.0  #: seconds after which RabbitMQ closes the channel of an unsettled one


#: Settings that a host which joins has no use for, as flags.
LEADERS_OWN = {
    "connections": "--connection",
    "routes": "--route",
    "prefetch": "--prefetch",
    "burst": "--burst",
    "wait": "--no-wait",
    "max_bytes": "--max-bytes",
    "placement": "--placement",
}


def build_plan(app: App, settings: Settings | None = None, import_string: str = "") -> Plan:
    """The plan of an app. Raises `ConfigurationError`; logs what deserves a warning."""
    settings = settings or Settings()
    served = resolve(app, settings)
    for warning in _warnings(app, served, settings):
        logger.warning("%s", warning)
    pipelines: dict[tuple[str, str], list[ResolvedRoute]] = {}
    for one in served:
        pipelines.setdefault((one.connection.name, one.vhost), []).append(one)
    outlets = _outlets(app, settings)
    return Plan(
        app=import_string,
        name=settings.name or _system_name(import_string),
        pipelines=tuple(
            replace(_pipeline(those, pipelines, import_string, settings), outlets=outlets)
            for those in pipelines.values()
        ),
        outlets=outlets,
        clock=bool(app.timers) or any(app.fail_callbacks(name) for name, _ in pipelines),
        singleton=_system_name(import_string),
        state_dir=str(state_dir()),
        version=app.version,
        host=settings.host_name,
        shutdown_timeout=settings.shutdown_timeout,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )


def build_host_plan(app: App, settings: Settings, import_string: str) -> NodePlan:
    """What is to be played on a host that joins another; logs what deserves a warning."""
    for warning in check_host(settings):
        logger.warning("%s", warning)
    for route in app.routes.values():
        _ = route.adapter  # whichever routes the first host will give it
    return NodePlan(
        app=import_string,
        name=settings.name or _system_name(import_string),
        host=settings.host_name,
        offers=parse_offers(settings.offer),
        version=app.version,
        shutdown_timeout=settings.shutdown_timeout,
        log_level=settings.log_level,
        log_format=settings.log_format,
    )


def _outlets(app: App, settings: Settings) -> Outlets:
    return tuple(
        (name, one.kind, one.as_json(getattr(one, "vhost", ""), {}))
        for name, one in resolve_connections(app, settings.connections).items()
    )


def _system_name(import_string: str) -> str:
    """The app's; every script is `__main__`, so that one is named after its file."""
    module, _, attribute = import_string.partition(":")
    if module != "__main__":
        return import_string
    return f"{Path(getattr(sys.modules[module], '__file__', None) or 'script').stem}:{attribute}"


def check_app(app: App, settings: Settings | None = None) -> list[str]:
    """What deserves a warning, as far as it can be told without a broker.

    Where no connection is named yet, the app is looked at as if it ran on the spool.
    Raises `ConfigurationError`.
    """
    settings = settings or Settings()
    if app.connections or settings.connections:
        return _warnings(app, resolve(app, settings), settings)
    on_spool = settings.model_copy(update={"connections": ("spool:",)})
    return [NO_CONNECTION, *_warnings(app, resolve(app, on_spool), settings)]


def check_host(settings: Settings) -> list[str]:
    """What deserves a warning on a host that joins: settings may be the same on all hosts."""
    given = [flag for field, flag in LEADERS_OWN.items() if field in settings.model_fields_set]
    if not given:
        return []
    return [f"with --join these are the first host's to say, and ignored here: {', '.join(given)}"]


def _pipeline(
    served: list[ResolvedRoute],
    pipelines: Collection[tuple[str, str]],
    import_string: str,
    settings: Settings,
) -> PipelinePlan:
    connection, vhost = served[0].connection, served[0].vhost
    siblings = sum(name == connection.name for name, _ in pipelines)
    headers = {queue: one.route.headers for one in served for queue in one.route.queues}
    return PipelinePlan(
        name=f"{connection.name}:{vhost}" if siblings > 1 else connection.name,
        kind=connection.kind,
        settings=connection.as_json(vhost, headers),
        routes=tuple(_route(one) for one in served),
        app=import_string,
        burst=settings.burst,
        wait=settings.wait and not settings.burst,
        max_bytes=-(-settings.max_bytes // len(pipelines)),
        state_dir=str(state_dir()),
        topology=tuple(
            (queue.name, json.dumps(queue.declarations()))
            for one in served
            for queue in one.route.declared
        ),
        host=settings.host_name,
        offers=parse_offers(settings.offer),
        spread=settings.placement == "spread",
    )


def _route(served: ResolvedRoute) -> RoutePlan:
    options, table = served.route.options, served.table
    return RoutePlan(
        name=served.route.name,
        queues=served.route.queues,
        bulk_size=served.prefetch.bulk_size,
        bulk_flush_interval=options.bulk_flush_interval,
        bulk_bytes=options.bulk_bytes,
        pool=options.pool,
        concurrency=served.concurrency,
        in_flight=served.prefetch.in_flight,
        serial=served.prefetch.in_flight == 1 and not served.route.is_async,
        prefetch=served.prefetch.count,
        timeout=options.timeout,
        max_crashes=options.max_crashes,
        max_messages=options.max_messages or 0,
        max_memory=options.max_memory or 0,
        delivery_limit=options.delivery_limit,
        order_by=options.order_by,
        requires=tuple(options.requires.items()),
        last_alone=0 if served.route.tasks else _last_alone(table),
        first_retry=_first_retry(table),
        on_timeout=_on_timeout(served.route, table),
        on_crash=policy_for(table, HandlerCrashed),
        **_of_tasks(served.route),
    )


def _on_timeout(route: Route, table: dict[type[BaseException], Policy]) -> Policy:
    """A job that is late has failed, unless its table names what late ones raise."""
    named = route.options.on_exception
    if route.tasks and not (isinstance(named, Mapping) and TimeoutError in named):
        return DEAD_LETTER
    return policy_for(table, TimeoutError)


def _of_tasks(route: Route) -> dict[str, Any]:
    """The fields of a plan that only a route of jobs has."""
    if not isinstance(route.handler, ProcessHandler):
        return {}
    options = [task.options for task in route.handler.tasks.values()]
    return {
        "tasks": route.tasks,
        "priorities": max((one.priorities or 0 for one in options), default=0),
        "at_most_once": any(one.at_most_once for one in options),
        "grace": max(one.grace for one in options),
    }


def _last_alone(table: dict[type[BaseException], Policy]) -> int:
    """The hand-out that may be the last of a message: the smallest count of attempts.

    A single attempt retries nothing, and would leave no bulk of more than one.
    """
    counts = [entry.attempts for entry in table.values() if entry.outcome is Outcome.RETRY]
    return min((attempts for attempts in counts if attempts > 1), default=0)


def _first_retry(table: dict[type[BaseException], Policy]) -> float | None:
    """The shortest wait after a first failure; None: nothing is retried."""
    outcomes = [replace(entry, jitter=False).apply(1) for entry in table.values()]
    return min((delay for outcome, delay in outcomes if outcome is Outcome.RETRY), default=None)


def _warnings(app: App, served: list[ResolvedRoute], settings: Settings) -> list[str]:
    offers = parse_offers(settings.offer)
    found = [f"route {one.route.name}: {text}" for one in served for text in _of_route(one, offers)]
    if app.import_threads:
        found.append(
            f"importing the app began threads ({', '.join(app.import_threads)}): handlers run in"
            " forks, which have none of them. Begin them in run_on_startup, which runs in each"
        )
    return found


def _of_route(served: ResolvedRoute, offers: tuple[Offer, ...]) -> Iterable[str]:
    requires = tuple(served.route.options.requires.items())
    if not satisfies(offers, requires):
        yield f"it waits for a host that offers {spelled(requires)}: this one does not"
    route, kind, numbers = served.route, served.connection.kind, served.prefetch
    broker = connector_of(kind).broker
    if numbers.count < numbers.enough:
        yield (
            f"a prefetch of {numbers.count} is less than two bulks for each handler"
            f" ({numbers.enough}): handlers will wait; bulks hold {numbers.bulk_size} at the most"
        )
    patience = _patience(route)
    if broker and route.options.timeout >= patience:
        yield (
            f"timeout {route.options.timeout:g} s is not under RabbitMQ's own"
            f" ({patience:g} s): the broker may close the channel first"
        )
    longest, bulks = patience / 2, broker and numbers.bulk_size > 1
    if bulks and (interval := route.options.bulk_flush_interval) > longest:
        yield (
            f"bulk_flush_interval {interval:g} s: a bulk waits for {longest:g} s at the most, half"
            " of RabbitMQ's consumer timeout"
        )
    if (most := route.options.max_memory) is not None and most < IDLE_MEMORY:
        yield (
            f"max_memory {most} is what a process may hold before it does anything"
            f" ({IDLE_MEMORY}): it will be replaced after every bulk"
        )
    yield from _of_retries(served, patience)
    yield from _of_rejects(served)
    for queue in route.declared:
        if not broker:
            yield f"queue {queue.name} is declared on RabbitMQ only, not on a connection of {kind}"
        elif queue.limited and not queue.dead_letters:
            yield (
                f"queue {queue.name} has a delivery limit and no dead-letter exchange: RabbitMQ"
                " deletes a message that comes back more often"
            )


def _patience(route: Route) -> float:
    """Seconds after which RabbitMQ takes back what is not settled, as far as a route says."""
    declared = [queue.all_arguments.get("x-consumer-timeout") for queue in route.declared]
    told = [time / 1000 for time in declared if isinstance(time, int) and time > 0]
    return min(told) if len(told) == len(route.queues) else min(RABBITMQ_PATIENCE, *told, inf)


def _of_retries(served: ResolvedRoute, patience: float) -> Iterable[str]:
    """What waits to be tried again on an ordered route is unsettled meanwhile."""
    if not connector_of(served.connection.kind).broker or not served.route.options.order_by:
        return
    longest = max((entry.lasts for entry in served.table.values()), default=0.0)
    if longest > patience:
        lasts = "without end" if longest == inf else f"for {longest:g} s"
        yield (
            f"with order_by a message that fails waits here, unsettled, {lasts} in all, and"
            f" RabbitMQ takes back all that the worker holds of its queue after {patience:g} s:"
            " give it a Retry that ends before"
        )


def _of_rejects(served: ResolvedRoute) -> Iterable[str]:
    """A REJECT is the broker's own: without a dead-letter exchange the message is gone."""
    route = served.route
    rejects = [error for error, entry in served.table.items() if entry.outcome is Outcome.REJECT]
    if not rejects and route.options.on_success is not Actions.REJECT:
        return
    if not connector_of(served.connection.kind).broker:
        yield "REJECT drops messages: DEAD_LETTER keeps them"
        return
    kept = {queue.name for queue in route.declared if queue.dead_letters}
    if open_ended := [queue for queue in route.queues if queue not in kept]:
        yield (
            f"REJECT drops messages of {', '.join(open_ended)} unless the queue has a"
            " dead-letter exchange, which cannot be seen from here: DEAD_LETTER keeps them"
        )
