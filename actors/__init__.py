"""Callboard: a worker for message streams, built as an actor system.

All that a user needs is here, and imported when it is first asked for: a web application
that only publishes loads neither the actor system nor the clients of what it does not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.api.app import App, SSEApplication
    from actors.api.connections import AMQPConnection, RouteTypes, SpoolConnection, SSEConnection
    from actors.api.message import Message
    from actors.api.options import Actions, AMQPRouteOptions, Events, Options, Retry, RouteOptions
    from actors.api.route import HandlerActor
    from actors.api.timeit import Timeit
    from actors.api.topology import Binding, Exchange, Queue
    from actors.connectors.rabbitmq.message import RabbitMQMessage
    from actors.connectors.spool.message import SpoolMessage
    from actors.connectors.sse.message import Event
    from actors.errors import (
        CallboardError,
        ConfigurationError,
        HandlerCrashed,
        InvalidConnection,
        InvalidHandler,
        InvalidMessage,
        InvalidRoute,
        PublishError,
        UndecodableMessageException,
        UnreachableError,
    )
    from actors.publisher import Publisher

__all__ = [
    "AMQPConnection", "AMQPRouteOptions", "Actions", "App", "Binding", "CallboardError",
    "ConfigurationError", "Event", "Events", "Exchange", "HandlerActor", "HandlerCrashed",
    "InvalidConnection", "InvalidHandler", "InvalidMessage", "InvalidRoute", "Message", "Options",
    "PublishError", "Publisher", "Queue", "RabbitMQMessage", "Retry", "RouteOptions",
    "RouteTypes", "SSEApplication", "SSEConnection", "SpoolConnection", "SpoolMessage",
    "Timeit", "UndecodableMessageException", "UnreachableError",
]  # fmt: skip

_HOMES = {
    "api.app": ("App", "SSEApplication"),
    "api.connections": ("AMQPConnection", "RouteTypes", "SSEConnection", "SpoolConnection"),
    "api.message": ("Message",),
    "api.options": ("AMQPRouteOptions", "Actions", "Events", "Options", "Retry", "RouteOptions"),
    "connectors.rabbitmq.message": ("RabbitMQMessage",),
    "connectors.spool.message": ("SpoolMessage",),
    "connectors.sse.message": ("Event",),
    "publisher": ("Publisher",),
    "api.route": ("HandlerActor",),
    "api.timeit": ("Timeit",),
    "api.topology": ("Binding", "Exchange", "Queue"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # which would believe that every name exists

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'actors' has no attribute {name!r}")
        return getattr(import_module(f"actors.{_HOME.get(name, 'errors')}"), name)
