"""`callboard run` and `callboard check`: from flags to a plan, and the plan played or shown."""

from __future__ import annotations

import json
from typing import Any

import click

from actors import log
from actors.api.app import App
from actors.api.connector import connector_of
from actors.cli.flags import RUN
from actors.cli.output import say, table
from actors.log import own_logger, redact
from actors.logic.supervision.placement import spelled
from actors.plan.build import build_host_plan, build_plan, check_app, check_host
from actors.plan.load import load
from actors.plan.network import network_of
from actors.plan.plan import NodePlan, PipelinePlan, Plan, RoutePlan
from actors.plan.settings import Settings

logger = own_logger("actors.system")

#: Where a flag and the field of `Settings` differ in name.
_FIELDS = {"connection": "connections", "route": "routes"}


@click.command(short_help="Run an app until it is told to stop.")
@click.argument("app", metavar="MODULE:APP")
@RUN
def run(app: str, **values: Any) -> int:
    """Run the app named MODULE:APP until it is told to stop; MODULE alone means MODULE:app.

    SIGTERM, SIGINT or SIGHUP drains: intake stops, what is in hand is finished and settled.
    A second one stops at once.

    \b
    Exits  0 clean                        1 crash
          69 broker unreachable          75 stopped with work left
          78 bad configuration            2 usage
    """
    from actors.ops import system

    settings = _settings(values)
    loaded = load(app, settings.app_dir)
    log.configure(settings.log_level, settings.log_format)  # what the app has set up stays
    plan = _plan(loaded, app, settings)
    _announce(plan, settings)
    return system.run(
        plan,
        admin_port=settings.admin_port,
        network=network_of(settings),
        name=plan.name,
        health=settings.health,
    )


@click.command(short_help="Show what `run` would play.")
@click.argument("app", metavar="MODULE:APP")
@RUN
def check(app: str, **values: Any) -> None:
    """Show what `run` would play, with these flags, variables and file, without connecting.

    Where no connection is named, the app is shown on the spool, with a warning.

    Exits 0 if it could be run, 78 if not, 69 where no way leads to the host to join.
    """
    settings = _settings(values)
    loaded = load(app, settings.app_dir)
    log.configure("ERROR")  # the warnings that a plan logs are shown below
    network_of(settings)
    caveats = check_host(settings) if settings.join else check_app(loaded, settings)
    if not (settings.join or loaded.connections or settings.connections):
        settings = settings.model_copy(update={"connections": ("spool:",)})
    plan = _plan(loaded, app, settings)
    say(f"{plan.app} {plan.version}".rstrip())
    if isinstance(plan, NodePlan):
        say("", _joins(plan, settings))
    else:
        for pipeline in plan.pipelines:
            say("", describe(pipeline), *_routes(pipeline))
        if loaded.tasks:
            say("", *_tasks(loaded))
    for caveat in caveats:
        say(f"callboard: warning: {redact(caveat)}", err=True)


def _plan(loaded: App, app: str, settings: Settings) -> Plan | NodePlan:
    return (
        build_host_plan(loaded, settings, app)
        if settings.join
        else build_plan(loaded, settings, app)
    )


def _announce(plan: Plan | NodePlan, settings: Settings) -> None:
    title = f"{plan.name} {plan.version}".rstrip()
    if isinstance(plan, NodePlan):
        logger.info("%s: %s", title, _joins(plan, settings))
        return
    for pipeline in plan.pipelines:
        logger.info("%s: %s serves %s", title, describe(pipeline), _names(pipeline))
    if not plan.pipelines:
        logger.info("%s: runs its timers", title)


def _joins(plan: NodePlan, settings: Settings) -> str:
    offers = f" and offers {spelled(plan.offers)}" if plan.offers else ""
    return f"host {plan.host} joins {' or '.join(settings.join)}{offers}"


def describe(pipeline: PipelinePlan) -> str:
    """A connection in a few words, without its secrets."""
    settings = json.loads(pipeline.settings)
    place = connector_of(pipeline.kind).load("connection").place_of(settings)
    return f"{pipeline.name} at {place}"


def _settings(values: dict[str, Any]) -> Settings:
    """From flags; what was not given has its default. Raises `ConfigurationError`."""
    given = {
        _FIELDS.get(key, key): value for key, value in values.items() if value not in (None, ())
    }
    if "no_wait" in given:
        given["wait"] = not given.pop("no_wait")
    if "log_level" in given:
        given["log_level"] = given["log_level"].upper()
    return Settings(**given)


def _names(pipeline: PipelinePlan) -> str:
    return ", ".join(route.name for route in pipeline.routes)


def _tasks(app: App) -> list[str]:
    """The tasks with their arguments and results."""
    rows = [
        (
            name, task.queue, task.declared.signature.described(),
            f"{task.declared.options.timeout:g} s",
        )
        for name, task in app.tasks.items()
    ]  # fmt: skip
    return table(("task", "queue", "call", "timeout"), rows, width=160)


def _routes(pipeline: PipelinePlan) -> list[str]:
    heads = ["route", "queues", "bulk", "flush", "processes", "in flight", "prefetch", "timeout"]
    rows = [_row(route) for route in pipeline.routes]
    if any(route.pool for route in pipeline.routes):
        heads.append("pool")
        rows = [(*row, route.pool) for row, route in zip(rows, pipeline.routes, strict=True)]
    return table(heads, rows)


def _row(route: RoutePlan) -> tuple[object, ...]:
    return (
        route.name,
        " ".join(route.queues),
        route.bulk_size,
        f"{route.bulk_flush_interval:g} s",
        route.concurrency,
        route.in_flight,
        route.prefetch,
        f"{route.timeout:g} s",
    )
