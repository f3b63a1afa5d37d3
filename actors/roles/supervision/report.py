"""The state of a system: what `callboard status --json` prints, read by people and machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from actors.log import redact
from actors.logic.messages.plain import plain
from actors.logic.supervision.children import Children, actor_status
from actors.plan.plan import NodePlan, PipelinePlan, Plan

#: What is counted of each route.
COUNTS = ("received", "acked", "rejected", "requeued", "retried", "dead", "in_flight")


def of_system(
    plan: Plan | NodePlan,
    state: str,
    actors: Iterable[dict[str, Any]],
    pipelines: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The whole, of its actors and of what its pipelines say."""
    routes = [route for report in pipelines for route in report.get("routes", ())]
    totals = {key: sum(route[key] for route in routes) for key in COUNTS}
    for key in ("stale", "replies_lost"):
        totals[key] = sum(report.get(key, 0) for report in pipelines)
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


def of_pipeline(
    plan: PipelinePlan, pid: int, children: Children, waiting: Mapping[str, str], *, draining: bool
) -> dict[str, Any]:
    """A pipeline, of its children and of what they say; `waiting` are routes without a host."""
    state = "draining" if draining else "running"
    actors = [actor_status("supervisor", plan.name, plan.host, state, pid=pid)]
    actors += [slot.status(plan.host, draining=draining) for slot in children]
    for route, reason in waiting.items():
        path = f"{plan.name}/{route}"
        actors.append(
            actor_status("handler", path, plan.host, "waiting", route=route, reason=reason)
        )
    reports = [json.loads(slot.report) for slot in children]
    served = {slot.pool for slot in children.of("handler") if slot.ready}
    # Where a route has a handler, it does not depend on those that other hosts have of it.
    own = all(slot.ready for slot in children if not slot.host)
    return {
        "ready": own and len(served) == len(plan.pools) and not draining,
        "actors": actors,
        "routes": [route for report in reports for route in report.get("routes", ())],
        "stale": sum(report.get("stale", 0) for report in reports),
        "replies_lost": sum(report.get("replies_lost", 0) for report in reports),
    }


def why(report: dict[str, Any]) -> str:
    """What keeps a system from being ready: of all that is not what it should be, the deepest.

    A supervisor only waits for others, and most actors for the one that has a reason.
    """
    actors = report.get("actors", ())
    troubled = [actor for actor in actors if actor["state"] not in ("running", "stopped")]
    reasons = [actor for actor in actors if actor.get("reason") and actor["state"] != "running"]
    for among in (reasons, troubled):
        for actor in sorted(among, key=lambda actor: actor["role"] in ("supervisor", "host")):
            return plain(redact(_trouble(actor)))
    return str(report.get("state", "starting"))


def _trouble(actor: dict[str, Any]) -> str:
    role, name, reason = actor["role"], actor["name"], actor.get("reason")
    if not reason:
        return f"{role} {name} is {actor['state']}"
    if role == "connection":
        return f"connection {name.removesuffix('/connection')}: {reason}"
    if role == "handler" and actor.get("route"):
        return reason if reason.startswith("route ") else f"route {actor['route']}: {reason}"
    return f"{role} {name}: {reason}"
