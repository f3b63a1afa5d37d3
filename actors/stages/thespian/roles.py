"""Roles and clients by name."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from actors.api.connector import connector_of, resolve

#: The class that plays a role. Resolved where it is played: one process needs one of them.
ROLES = {
    "root": "actors.roles.supervision.system:SystemSupervisor",
    "host": "actors.roles.supervision.node:NodeSupervisor",
    "pipeline": "actors.roles.supervision.pipeline:PipelineSupervisor",
    "connection": "actors.roles.connection:Connection",
    "batcher": "actors.roles.batcher:Batcher",
    "handler": "actors.roles.handler:Handler",
    "clock": "actors.roles.clock:Clock",
}
CLIENTS = {
    "runner": "actors.usercode.runner:UserCode",
    "clock": "actors.usercode.runner:ClockCode",
    "journal": "actors.connectors.journal:BulkJournal",
}


def preload(kinds: Iterable[str]) -> None:
    """Import what actors and these kinds of clients need; processes forked later share it."""
    clients = (CLIENTS.get(kind) or connector_of(kind).client for kind in kinds)
    for path in (*ROLES.values(), *clients):
        import_module(path.partition(":")[0])


def client_of(kind: str) -> Any:
    """The class of the clients of a kind: a connector's, or of user code."""
    return resolve(CLIENTS[kind]) if kind in CLIENTS else connector_of(kind).load("client")
