"""How a system is: what `callboard status --json` prints, read by people and machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from actors.log import redact
from actors.logic.children import Children, Slot
from actors.logic.plain import plain
from actors.plan import HostPlan, Plan, UnitPlan

#: What is counted of each route.
COUNTS = ("received", "acked", "rejected", "requeued", "retried", "dead", "in_flight")


def of_system(
    plan: Plan | HostPlan,
    state: str,
    actors: Iterable[dict[str, Any]],
    units: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The whole, of its actors and of what its units say."""
    routes = [route for report in units for route in report.get("routes", ())]
    totals = {key: sum(route[key] for route in routes) for key in COUNTS}
    totals["stale"] = sum(report.get("stale", 0) for report in units)
    return {
        "app": plan.app,
        "name": plan.name,
        "version": plan.version,
        "state": state,
        "ready": state == "running",
        "since": plan.since,
        "actors": list(actors),
        "routes": routes,
        "totals": totals,
    }


def of_unit(
    plan: UnitPlan, pid: int, children: Children, waiting: Mapping[str, str], *, draining: bool
) -> dict[str, Any]:
    """A unit, of its children and of what they say; `waiting` are routes without a host."""
    unit = Slot("supervisor", plan.name, pid=pid, state="running")
    slots = [unit, *children]
    slots += [
        Slot("handler", f"{plan.name}/{route}", route, state="waiting", reason=reason)
        for route, reason in waiting.items()
    ]
    reports = [json.loads(slot.report) for slot in children]
    served = {slot.pool for slot in children.of("handler") if slot.ready}
    # Where a route has a handler, it does not depend on those that other hosts have of it.
    own = all(slot.ready for slot in children if not slot.host)
    return {
        "ready": own and len(served) == len(plan.pools) and not draining,
        "actors": [slot.status(plan.host) for slot in slots],
        "routes": [route for report in reports for route in report.get("routes", ())],
        "stale": sum(report.get("stale", 0) for report in reports),
    }


def why(report: dict[str, Any]) -> str:
    """What keeps a system from being ready: the first actor that is not what it should be."""
    for actor in report.get("actors", ()):
        if actor["state"] not in ("running", "stopped"):
            what = f"{actor['role']} {actor['name']} is {actor['state']}"
            whole = f"{what}: {actor['reason']}" if actor.get("reason") else what
            return plain(redact(whole))
    return str(report.get("state", "starting"))
