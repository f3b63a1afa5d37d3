"""The options of tasks and of single calls, each one schema behind every spelling of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypedDict

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator

from actors.api.options import OnException, Retry, check_on_exception
from actors.api.schema import Schema
from actors.errors import ConfigurationError
from actors.logic.jobs.job import Conflict, UniqueKey, Until
from actors.logic.jobs.store import check_id
from actors.logic.messages.entry import MAX_DELAY, MAX_MESSAGE, check_queue
from actors.logic.messages.records import MAX_PRIORITY

#: Seconds that a caller waits where nothing is said.
WAIT_S = 30.0

RESULT_MAX = 1024 * 1024  #: bytes of a result, as JSON


@dataclass(frozen=True, slots=True)
class Unique:
    """One job at a time has a key, made of the arguments by name: `Unique("{user}")`.

    The key is held until the job has `"ended"`, has `"begun"`, or for so many seconds, which may
    outlast it. Another job of the same key is not put meanwhile: its caller gets the `"existing"`
    one, or with `"raise"` a `JobConflict`; with `"replace"`, the new job takes the place of one
    that waits. Raises `ConfigurationError`.
    """

    key: str = ""  #: a format string; empty: all arguments
    until: str | float = "ended"
    conflict: str = "existing"

    def __post_init__(self) -> None:
        if not isinstance(self.key, str):
            raise ConfigurationError(f'Unique: key must be a text, "{{user}}", not {self.key!r}')
        conflicts = [one.value for one in Conflict]
        if self.conflict not in conflicts:
            raise ConfigurationError(
                f"Unique: conflict must be one of {', '.join(conflicts)}, not {self.conflict!r}"
            )
        is_number = isinstance(self.until, int | float) and not isinstance(self.until, bool)
        if not (self.until in (*Until,) or (is_number and 0 < float(self.until) < math.inf)):
            raise ConfigurationError(
                f"Unique: until must be ended, begun, or seconds, not {self.until!r}"
            )

    def key_of(self, task: str, arguments: Mapping[str, Any], body: bytes) -> UniqueKey:
        """The key of one call. Raises `ConfigurationError` where it names no argument."""
        try:
            named = self.key.format(**arguments) if self.key else body.decode()
        except (LookupError, ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"task {task}: Unique({self.key!r}) cannot be made of its arguments: {error!r}"
            ) from None
        until = Until(self.until) if isinstance(self.until, str) else float(self.until)
        return UniqueKey(f"{task}:{named}", until, Conflict(self.conflict))


def _check_raises(classes: Any) -> Any:
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise ValueError(f"must be exception classes, and {one!r} is none")
    return tuple(classes)


def _check_queue(queue: str) -> str:
    if queue:
        check_queue(queue)
    return queue


def _check_at(at: Any) -> Any:
    if at is not None and not (isinstance(at, datetime) and at.tzinfo is not None):
        raise ValueError("must be a datetime with a time zone")
    return at


def _check_headers(headers: Any) -> Any:
    if headers is not None and not (
        isinstance(headers, Mapping) and all(isinstance(key, str) for key in headers)
    ):
        raise ValueError("must be a mapping with texts as keys")
    return headers


Seconds = Annotated[float, Field(ge=0, le=MAX_DELAY)]


class TaskOptions(Schema):
    """All options of a task, with their defaults. Raises `ConfigurationError`."""

    model_config = ConfigDict(frozen=True)
    noun: ClassVar[str] = "option"

    queue: Annotated[str, AfterValidator(_check_queue)] = ""  #: empty: the task's name
    connection: str = ""  #: its name, where the app has several
    #: Runs after a failure. None: `Retry()` for what is sent, none where a caller waits.
    retry: Retry | None = None
    on_exception: Annotated[OnException | None, PlainValidator(check_on_exception)] = None
    timeout: float = Field(default=180.0, gt=0, le=MAX_DELAY)  #: seconds of a run
    #: Seconds for which a run that is to end may go on; then its process is killed.
    grace: Seconds = 5.0
    expires: float | None = Field(default=None, gt=0, le=MAX_DELAY)  #: seconds to its begin
    priority: int = Field(default=0, ge=0, le=MAX_PRIORITY)  #: higher first
    #: The highest priority of its queue, as RabbitMQ has to know; elsewhere it is 255 without this.
    priorities: int | None = Field(default=None, ge=1, le=MAX_PRIORITY)
    result_ttl: Seconds = 500.0  #: seconds for which a result is kept; 0: not at all
    failure_ttl: Seconds | None = None  #: the same of a failed job; None: until somebody deletes it
    unique: Unique | None = None
    at_most_once: bool = False  #: what was begun never runs again, whatever becomes of its worker
    persistent: bool = True  #: stored on the disk before `send` returns
    #: Exceptions that callers get as they are: made anew from their arguments.
    raises: Annotated[tuple[type[Exception], ...], PlainValidator(_check_raises)] = ()
    secret: tuple[str, ...] = ()  #: arguments that nobody is shown
    max_args: int = Field(default=MAX_MESSAGE, ge=1, le=MAX_MESSAGE)  #: bytes, as JSON
    max_result: int = Field(default=RESULT_MAX, ge=1, le=MAX_MESSAGE)  #: bytes, as JSON
    #: Processes. None: those that all tasks of the app share, as many as cores, four at the most.
    concurrency: int | None = Field(default=None, ge=1)
    in_flight: int | None = Field(default=None, ge=1)  #: jobs at once in a process
    pool: str = ""  #: tasks and routes of one pool share processes
    requires: dict[str, str | int | bool] = Field(default_factory=dict)  #: of the worker's host
    max_messages: int | None = Field(default=None, ge=1)
    max_memory: int | None = Field(default=None, ge=1)
    max_crashes: int = Field(default=3, ge=1)


class TaskKeywords(TypedDict, total=False):
    """The options of a task as keyword arguments: see `TaskOptions`."""

    queue: str
    connection: str
    retry: Retry | None
    on_exception: OnException | None
    timeout: float
    grace: float
    expires: float | None
    priority: int
    priorities: int | None
    result_ttl: float
    failure_ttl: float | None
    unique: Unique | None
    at_most_once: bool
    persistent: bool
    raises: Sequence[type[Exception]]
    secret: Sequence[str]
    max_args: int
    max_result: int
    concurrency: int | None
    in_flight: int | None
    pool: str
    requires: Mapping[str, str | int | bool]
    max_messages: int | None
    max_memory: int | None
    max_crashes: int


class CallOptions(Schema):
    """The options of one call; what is None is as the task has it. Raises `ConfigurationError`."""

    model_config = ConfigDict(frozen=True)
    noun: ClassVar[str] = "option"

    delay: Seconds = 0.0  #: seconds before which it does not run
    at: Annotated[Any, AfterValidator(_check_at)] = None  #: the same as a time
    priority: int | None = Field(default=None, ge=0, le=MAX_PRIORITY)
    expires: float | None = Field(default=None, gt=0, le=MAX_DELAY)  #: seconds to its begin
    wait: float = Field(default=WAIT_S, gt=0, le=MAX_DELAY)  #: seconds for the outcome of a `call`
    timeout: float | None = Field(default=None, gt=0, le=MAX_DELAY)
    #: Whose outcome is asked for: a second call of the same id is the first.
    id: Annotated[str | None, AfterValidator(lambda id: id if id is None else check_id(id))] = None
    headers: Annotated[Any, AfterValidator(_check_headers)] = None
    description: str = ""
    persistent: bool | None = None
    result_ttl: Seconds | None = None
    connection: str | None = None  #: its name
    meta: dict[str, Any] = Field(default_factory=dict)


class CallKeywords(TypedDict, total=False):
    """The options of one call as keyword arguments: see `CallOptions`."""

    delay: float
    at: datetime | None
    priority: int | None
    expires: float | None
    wait: float
    timeout: float | None
    id: str | None
    headers: Mapping[str, Any] | None
    description: str
    persistent: bool | None
    result_ttl: float | None
    connection: str | None
    meta: dict[str, Any]


def task_options(name: str, given: Mapping[str, Any]) -> TaskOptions:
    """The options of a task. Raises `ConfigurationError` that names it."""
    values: dict[str, Any] = dict(given)
    if isinstance(values.get("secret"), list):
        values["secret"] = tuple(values["secret"])
    try:
        options = TaskOptions(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"task {name}: {error}") from None
    if options.at_most_once and options.retry is not None:
        raise ConfigurationError(
            f"task {name}: at_most_once and retry exclude each other: give one"
        )
    if options.at_most_once and (options.in_flight or 1) > 1:
        raise ConfigurationError(
            f"task {name}: at_most_once needs in_flight=1, not {options.in_flight}: the end of a"
            " process would take its neighbours with it"
        )
    if options.retry is not None and options.on_exception is not None:
        raise ConfigurationError(
            f"task {name}: retry and on_exception exclude each other: name the exceptions in"
            " on_exception={Error: Retry(…)}"
        )
    return options
