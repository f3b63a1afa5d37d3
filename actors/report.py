"""The report that the root gives of its system, read by people and machines."""

from __future__ import annotations

from typing import Any

from actors.log import redact


def why(report: dict[str, Any]) -> str:
    """What keeps a system from being ready: the first actor that is not what it should be."""
    for actor in report.get("actors", ()):
        if actor["state"] not in ("running", "stopped"):
            what = f"{actor['role']} {actor['name']} is {actor['state']}"
            return redact(f"{what}: {actor['reason']}" if actor.get("reason") else what)
    return str(report.get("state", "starting"))
