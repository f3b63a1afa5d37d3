"""Errors: the fault behind each, whether to try again, and the exit code of the process."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any

from actors.logic.messages.plain import plain


class Exit(IntEnum):
    """Exit codes of `callboard`, after sysexits.h."""

    CLEAN = 0
    CRASH = 1
    USAGE = 2
    UNREACHABLE = 69  #: the broker cannot be reached
    WORK_LEFT = 75  #: stopped with work left
    CONFIG = 78  #: bad configuration


class Fault(StrEnum):
    """The reason of a lost connection, as far as it decides what comes next."""

    UNREACHABLE = "unreachable"  #: try again with backoff, for ever
    REFUSED = "refused"  #: credentials, vhost, permission, certificate: every minute
    MISSING = "missing"  #: a queue that does not exist: every minute


class CallboardError(Exception):
    """Base of all errors that Callboard raises on purpose."""


class ConfigurationError(CallboardError):
    """A setting that cannot be used; the message names the setting and the value.

    Ends the process with exit code 78.
    """


class UnreachableError(CallboardError):
    """A broker that cannot be reached, where nobody wants to wait. Exit code 69."""


class PublishError(CallboardError):
    """A message that could not be stored, or not be proven to be stored."""

    def __str__(self) -> str:
        return plain(super().__str__())  # names of queues, and what brokers say of them


class InvalidRoute(ConfigurationError):
    """A route that names no queue, or no connection where there are several."""


class InvalidConnection(ConfigurationError):
    """A connection that does not exist, or a second one of the same name."""


# The exceptions of the table: what befalls a message outside its handler.


class InvalidMessage(CallboardError, ValueError):
    """Not decodable, or not valid for a typed handler; settled before the call."""


#: The name that async-worker has for it.
UndecodableMessageException = InvalidMessage


class InvalidHandler(CallboardError, TypeError):
    """The handler is written so that no attempt can succeed: it returned something, or did not
    await a `put`."""


class HandlerCrashed(CallboardError):
    """The message was alone in a process that died, `MAX_CRASHES` times."""


class DeliveryLimit(CallboardError):
    """The message came back so often that its broker would soon delete it; always a dead letter."""


# Tasks: what callers meet.


class TaskError(CallboardError):
    """Base of what becomes of a call that brought no result. `job` is the id of the job."""

    def __init__(self, message: str, job: str = "") -> None:
        super().__init__(message)
        self.job = job


class TaskFailed(TaskError):
    """The task raised, and is not run again; `type`, `message`, `args_` and `traceback` are the
    exception's."""

    def __init__(
        self,
        type: str,
        message: str = "",
        args_: tuple[Any, ...] = (),
        traceback: str = "",
        job: str = "",
    ) -> None:
        super().__init__(f"{type}: {message}" if message else type, job)
        self.type = type
        self.message = message
        self.args_ = args_
        self.traceback = traceback


class TaskTimeout(TaskError):
    """A worker has begun the job, and there is no outcome within `wait`; it goes on."""


class TaskExpired(TaskError):
    """Nobody began the job within `expires` or `wait`: it is withdrawn."""


class TaskStopped(TaskError):
    """Somebody stopped the job while it ran."""


class TaskCanceled(TaskError):
    """Somebody canceled the job before it began."""


class ReplyLost(TaskError):
    """The queue of the caller's replies is gone, and with it whatever was in it; the job may have
    run."""


class UnknownTask(TaskError):
    """The workers of the queue have no task of this name."""


class ResultExpired(TaskError):
    """There is no such job, or its result was kept for `result_ttl` and is gone."""


class NotSupported(ConfigurationError):
    """The connection of a task cannot do what was asked of it."""


class InvalidArguments(CallboardError, ValueError):
    """Arguments that are not of the types which the task's signature names."""


class JobInterrupted(BaseException):
    """Raised into a task whose time is over, or that was stopped. No `Exception`: what catches
    those lets it through."""
