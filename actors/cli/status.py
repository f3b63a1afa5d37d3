"""`callboard status`: how a running system is, for people and for probes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from actors.cli.flags import flag
from actors.cli.output import say, say_json, table
from actors.cli.values import Whole
from actors.logic.jobs.job import Status
from actors.roles.supervision.report import why

READY, NOT_READY, NOTHING = 0, 1, 3

_COUNTS = ("received", "acked", "requeued", "retried", "rejected", "dead", "in_flight")


@click.command(short_help="How a running system is.")
@click.argument("name", required=False, envvar="CALLBOARD_NAME")
@click.option("--json", "as_json", is_flag=True, help="The whole report as one JSON object.")
@click.option("--ready", is_flag=True, help="Only whether it is ready: for probes.")
@flag(
    "--admin-port",
    "The one that has this admin port.",
    type=Whole(0, 65535),
    metavar="PORT",
)
def status(name: str | None, as_json: bool, ready: bool, admin_port: int | None) -> int:
    """How the running system NAME is; without a name, that of
    CALLBOARD_NAME, or the only one that runs.

    Exits 0 if it is ready, 1 if it is up and not ready, 3 if nothing runs.
    """
    from actors.ops import system

    report = system.status(name, admin_port=admin_port)
    if report is None:
        say(f"callboard: nothing runs{f' under the name {name}' if name else ''}", err=True)
        return NOTHING
    if as_json:
        say_json(report)
    elif ready:
        say("ready" if report["ready"] else f"not ready: {why(report)}")
    else:
        say(*_page(report))
    return READY if report["ready"] else NOT_READY


def _page(report: dict[str, Any]) -> list[str]:
    """The report as people read it, at most 100 columns wide."""
    parts = [[_head(report)], _actors(report["actors"]), _routes(report), _jobs(report)]
    parts += [
        [f"{route['name']}: {route['last_error']}"]
        for route in report["routes"]
        if route["last_error"]
    ]
    return [line for part in parts if part for line in ("", *part)][1:]


def _head(report: dict[str, Any]) -> str:
    ready = "ready" if report["ready"] else f"not ready: {why(report)}"
    words = [
        report["app"],
        report["version"],
        f"as {report['name']}:",
        f"{report['state']}, {ready}",
    ]
    if report["since"]:
        began = datetime.fromisoformat(report["since"]).astimezone()
        words.append(began.strftime("since %Y-%m-%d %H:%M:%S"))
    return " ".join(word for word in words if word)


def _actors(actors: Sequence[dict[str, Any]]) -> list[str]:
    heads = ["role", "name", "pid", "state", "restarts", "reason"]
    if len({actor["host"] for actor in actors}) > 1:
        heads.insert(2, "host")
    rows = [tuple(_cell(actor, head) for head in heads) for actor in actors]
    return table(("actor", *heads[1:]), rows)


def _cell(actor: dict[str, Any], head: str) -> object:
    if head == "pid":
        return str(actor["pid"] or "")  # a number would be set to the right
    return actor.get(head, "")


def _jobs(report: dict[str, Any]) -> list[str]:
    """The jobs of each queue by status, as their store counted them."""
    counted = [(route["name"], route["jobs"]) for route in report["routes"] if "jobs" in route]
    statuses = [status.value for status in Status]
    rows = [(name, *(jobs.get(status, 0) for status in statuses)) for name, jobs in counted]
    return table(("jobs of", *statuses), rows)


def _routes(report: dict[str, Any]) -> list[str]:
    rows = [
        (route["name"], *(route[count] for count in _COUNTS), f"{route['oldest_s']:.1f} s")
        for route in report["routes"]
    ]
    if len(rows) > 1:
        rows.append(("total", *(report["totals"][count] for count in _COUNTS), ""))
    heads = ("route", *(count.replace("_", " ") for count in _COUNTS), "oldest")
    return table(heads, rows)
