"""Which class plays which role, and which client stands for which piece of the world."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

#: What a role is played by. Resolved where it is played: one process needs one of them.
ROLES = {
    "root": "actors.root:RootSupervisor",
    "host": "actors.host:HostSupervisor",
    "unit": "actors.unit:UnitSupervisor",
    "connection": "actors.connection:Connection",
    "batcher": "actors.batcher:Batcher",
    "handler": "actors.handler:Handler",
    "clock": "actors.clock:Clock",
}
CLIENTS = {
    "amqp": "actors.clients.rabbitmq:RabbitMQClient",
    "spool": "actors.clients.spool:SpoolClient",
    "sse": "actors.clients.sse:SSEClient",
    "runner": "actors.clients.runner:UserCode",
    "clock": "actors.clients.runner:ClockCode",
    "hands": "actors.clients.hands:Hands",
}


def preload(kinds: Iterable[str]) -> None:
    """Import what actors and these kinds of clients need; processes forked later share it."""
    for path in (*ROLES.values(), *(CLIENTS[kind] for kind in kinds)):
        importlib.import_module(path.partition(":")[0])


def resolve(path: str) -> Any:
    """The object that `module:name` stands for."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
