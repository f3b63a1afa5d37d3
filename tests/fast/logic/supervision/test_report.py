"""The one line that says why a system is not ready names the deepest cause."""

from __future__ import annotations

from typing import Any

import pytest

from actors.roles.supervision.report import why

ROOT = {"role": "supervisor", "name": "root", "state": "starting", "reason": ""}
PIPELINE = {"role": "supervisor", "name": "broker", "state": "running", "reason": ""}
BATCHER = {"role": "batcher", "name": "broker/batcher", "state": "running", "reason": ""}


def connection(state: str = "running", reason: str = "") -> dict[str, Any]:
    return {"role": "connection", "name": "broker/connection", "state": state, "reason": reason}


def handler(state: str = "running", reason: str = "") -> dict[str, Any]:
    name = "broker/orders/1"
    return {
        "role": "handler", "name": name, "route": "orders", "state": state, "reason": reason,
    }  # fmt: skip


RAISED = "route orders: on_start raised OperationalError: no such table"
REFUSED = "127.0.0.1:5672/: Connection refused, tried again in 8 s"


@pytest.mark.parametrize(
    ("actors", "told"),
    [
        (
            [ROOT, PIPELINE, connection("reconnecting", REFUSED), BATCHER],
            f"connection broker: {REFUSED}",
        ),
        ([ROOT, PIPELINE, connection(), BATCHER, handler("waiting", RAISED)], RAISED),
        (
            [ROOT, PIPELINE, connection("starting", ""), BATCHER, handler("waiting", RAISED)],
            RAISED,
        ),
        (
            [ROOT, PIPELINE, connection("reconnecting", REFUSED), handler("waiting", RAISED)],
            f"connection broker: {REFUSED}",
        ),
        (
            [ROOT, PIPELINE, connection(), handler("waiting", "no host offers gpu")],
            "route orders: no host offers gpu",
        ),
        (
            [ROOT, PIPELINE, connection(), handler("stopped", "killed by SIGKILL")],
            "route orders: killed by SIGKILL",
        ),
        (
            [ROOT, PIPELINE, connection(), handler("starting")],
            "handler broker/orders/1 is starting",
        ),
        ([ROOT], "supervisor root is starting"),
        ([], "starting"),
    ],
)
def test_the_deepest_cause_is_told(actors: list[dict[str, Any]], told: str) -> None:
    assert why({"actors": actors, "state": "starting"}) == told


def test_no_cause_forges_a_line_for_systemd() -> None:
    told = why({"actors": [connection("waiting", "refused\nMAINPID=1 amqp://u:pw@h/")]})
    assert told == "connection broker: refused\\nMAINPID=1 amqp://u:***@h/"
