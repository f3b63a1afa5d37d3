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
        InvalidArguments,
        InvalidConnection,
        InvalidHandler,
        InvalidMessage,
        InvalidRoute,
        JobInterrupted,
        NotSupported,
        PublishError,
        ReplyLost,
        ResultExpired,
        TaskCanceled,
        TaskError,
        TaskExpired,
        TaskFailed,
        TaskStopped,
        TaskTimeout,
        UndecodableMessageException,
        UnknownTask,
        UnreachableError,
    )
    from actors.logic.jobs.job import Status
    from actors.logic.jobs.jobs import JobConflict
    from actors.logic.jobs.store import JobInfo
    from actors.logic.topics import TopicEvent
    from actors.publisher import Publisher
    from actors.tasks.context import JobContext, current_job
    from actors.tasks.job import Job
    from actors.tasks.jobs import Reply
    from actors.tasks.options import TaskOptions, Unique
    from actors.tasks.task import Task, TaskActor
    from actors.tasks.topics import Topic

__all__ = [
    "AMQPConnection", "AMQPRouteOptions", "Actions", "App", "Binding", "CallboardError",
    "ConfigurationError", "Event", "Events", "Exchange", "HandlerActor", "HandlerCrashed",
    "InvalidArguments", "InvalidConnection", "InvalidHandler", "InvalidMessage", "InvalidRoute",
    "Job", "JobConflict", "JobContext", "JobInfo", "JobInterrupted", "Message", "NotSupported",
    "Options", "PublishError", "Publisher", "Queue", "RabbitMQMessage", "Reply",
    "ReplyLost", "ResultExpired", "Retry", "RouteOptions", "RouteTypes", "SSEApplication",
    "SSEConnection", "SpoolConnection", "SpoolMessage", "Status", "Task", "TaskActor",
    "TaskCanceled",
    "TaskError", "TaskExpired", "TaskFailed", "TaskOptions", "TaskStopped", "TaskTimeout",
    "Timeit", "Topic", "TopicEvent", "UndecodableMessageException", "Unique", "UnknownTask",
    "UnreachableError",
    "current_job",
]  # fmt: skip

_HOMES = {
    "api.app": ("App", "SSEApplication"),
    "api.connections": ("AMQPConnection", "RouteTypes", "SSEConnection", "SpoolConnection"),
    "api.message": ("Message",),
    "api.options": ("AMQPRouteOptions", "Actions", "Events", "Options", "Retry", "RouteOptions"),
    "connectors.rabbitmq.message": ("RabbitMQMessage",),
    "connectors.spool.message": ("SpoolMessage",),
    "connectors.sse.message": ("Event",),
    "logic.jobs.job": ("Status",),
    "logic.jobs.jobs": ("JobConflict",),
    "logic.jobs.store": ("JobInfo",),
    "publisher": ("Publisher",),
    "tasks.context": ("JobContext", "current_job"),
    "tasks.job": ("Job",),
    "tasks.jobs": ("Reply",),
    "tasks.options": ("TaskOptions", "Unique"),
    "tasks.task": ("Task", "TaskActor"),
    "tasks.topics": ("Topic",),
    "logic.topics": ("TopicEvent",),
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
