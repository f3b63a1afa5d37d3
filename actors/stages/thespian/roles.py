"""Which class plays which role, and which client stands for which piece of the world."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

#: What a role is played by. Resolved where it is played: one process needs one of them.
ROLES = {
    "root": "actors.roles.system:RootSupervisor",
    "host": "actors.roles.node:HostSupervisor",
    "unit": "actors.roles.pipeline:UnitSupervisor",
    "connection": "actors.roles.connection:Connection",
    "batcher": "actors.roles.batcher:Batcher",
    "handler": "actors.roles.handler:Handler",
    "clock": "actors.roles.clock:Clock",
}
CLIENTS = {
    "amqp": "actors.connectors.rabbitmq.connection:RabbitMQClient",
    "spool": "actors.connectors.spool.connection:SpoolClient",
    "sse": "actors.connectors.sse.connection:SSEClient",
    "runner": "actors.usercode.runner:UserCode",
    "clock": "actors.usercode.runner:ClockCode",
    "hands": "actors.connectors.hands:Hands",
}


def preload(kinds: Iterable[str]) -> None:
    """Import what actors and these kinds of clients need; processes forked later share it."""
    for path in (*ROLES.values(), *(CLIENTS[kind] for kind in kinds)):
        importlib.import_module(path.partition(":")[0])


def resolve(path: str) -> Any:
    """The object that `module:name` stands for."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
