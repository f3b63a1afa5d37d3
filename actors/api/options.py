"""Options, events and actions of a route, and the one schema behind every spelling of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator

from actors.api.callables import fault
from actors.api.schema import Schema
from actors.errors import ConfigurationError, HandlerCrashed, InvalidHandler, InvalidMessage
from actors.logic.messages.entry import MAX_DELAY, MAX_MESSAGE
from actors.logic.settlement.failure import DEAD_LETTER, Outcome, Policy


class Options(StrEnum):
    """Keys of `options=`; the values are the keyword names of `RouteOptions`."""

    BULK_SIZE = "bulk_size"
    BULK_FLUSH_INTERVAL = "bulk_flush_interval"
    BULK_BYTES = "bulk_bytes"
    CONCURRENCY = "concurrency"
    IN_FLIGHT = "in_flight"
    TIMEOUT = "timeout"
    MAX_CRASHES = "max_crashes"
    MAX_MESSAGES = "max_messages"
    MAX_MEMORY = "max_memory"
    DELIVERY_LIMIT = "delivery_limit"
    ORDER_BY = "order_by"
    POOL = "pool"
    REQUIRES = "requires"
    CONNECTION_FAIL_CALLBACK = "connection_fail_callback"
    MAX_CONCURRENCY = "max_concurrency"  #: of `run_every`
    SINGLETON = "singleton"  #: of `run_every`


class Events(StrEnum):
    """The events that a table of actions can be declared for, beside the options."""

    ON_SUCCESS = "on_success"
    ON_EXCEPTION = "on_exception"


class Actions(StrEnum):
    """The outcomes that a route can be given for a message."""

    ACK = "ack"
    REQUEUE = "requeue"
    REJECT = "reject"  #: dropped, or to the dead-letter exchange of its queue
    DEAD_LETTER = "dead_letter"  #: a copy with the reason in `<queue>.dead`, then acknowledged


@dataclass(frozen=True, slots=True)
class Retry:
    """Hand the message out again later, and dead-letter it after the last attempt.

    The defaults last for hours: an outage of minutes sends no queue into dead letters.
    `delays` names each wait in the place of `first`, `factor` and `cap`; where there are more
    attempts than delays, the last delay repeats:

        >>> Retry(attempts=4, delays=[5, 60])
        Retry(attempts=4, jitter=True, delays=(5, 60))
    """

    attempts: int = 20  #: hand-outs in all, the first included; 0: without end
    first: float = 1.0  #: seconds before the second hand-out
    factor: float = 2.0  #: by which each wait is longer than the one before
    cap: float = 3600.0  #: seconds that no wait exceeds
    jitter: bool = True  #: each wait is shortened by up to a tenth
    delays: Sequence[float] = ()  #: seconds before the second hand-out, the third, …

    def __post_init__(self) -> None:
        if self.delays != ():
            self._take_delays()
        minima = {"attempts": 0, "first": 0, "factor": 1, "cap": 0}
        for name, least in minima.items():
            value = getattr(self, name)
            kinds = (int,) if name == "attempts" else (int, float)
            # Written so that NaN, which compares false with everything, is refused too.
            if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
                raise ConfigurationError(f"Retry: {name} must be {least} or more, not {value!r}")
        if not isinstance(self.jitter, bool):
            raise ConfigurationError(f"Retry: jitter must be True or False, not {self.jitter!r}")

    def _take_delays(self) -> None:
        delays = self.delays
        if isinstance(delays, str | bytes) or not isinstance(delays, Sequence) or not delays:
            raise ConfigurationError(f"Retry: delays must be a list of seconds, not {delays!r}")
        for delay in delays:
            if isinstance(delay, bool) or not isinstance(delay, int | float) or not delay >= 0:
                raise ConfigurationError(f"Retry: delays must be 0 or more, not {delay!r}")
            if delay > MAX_DELAY:
                raise ConfigurationError(
                    f"Retry: delays must be at most {MAX_DELAY}, not {delay!r}"
                )
        defaults = {one.name: one.default for one in fields(Retry)}
        for name in ("first", "factor", "cap"):
            if getattr(self, name) != defaults[name]:
                raise ConfigurationError(f"Retry: {name} has no effect beside delays: name one")
        object.__setattr__(self, "delays", tuple(delays))

    def __repr__(self) -> str:
        shown = fields(self)[:-1] if self.delays == () else [fields(self)[0], *fields(self)[-2:]]
        return f"Retry({', '.join(f'{one.name}={getattr(self, one.name)!r}' for one in shown)})"


PolicyOption = Actions | Retry
OnException = PolicyOption | Mapping[type[BaseException], PolicyOption]


def _check_callback(callback: Any) -> Any:
    if problem := fault(callback, "error", "retries"):
        raise ValueError(problem)
    return callback


FailCallback = Annotated[
    Callable[[Exception, int], Awaitable[None] | None], AfterValidator(_check_callback)
]


def check_on_exception(value: Any) -> Any:
    """The value, if it is what `on_exception` may be. Raises ValueError."""
    if value is None:
        return None
    entries = value if isinstance(value, Mapping) else {Exception: value}
    for error, option in entries.items():
        if not (isinstance(error, type) and issubclass(error, BaseException)):
            raise ValueError(f"must name exception classes, and {error!r} is none")
        if not isinstance(option, Actions | Retry):
            raise ValueError("must be an action, a Retry, or {exception class: either}")
    return value


def _check_order_by(key: str) -> str:
    name = key.removeprefix("header:")
    if key in ("", "routing_key") or (name and name != key):
        return key
    raise ValueError(f'must be "routing_key" or "header:{name or "NAME"}"')


class RouteOptions(Schema):
    """All options of a route, with their defaults. Raises `ConfigurationError`."""

    model_config = ConfigDict(frozen=True)
    noun: ClassVar[str] = "option"

    bulk_size: int = Field(default=1, ge=1)
    #: Seconds from the oldest message of a bulk until it is handed out as it is.
    bulk_flush_interval: float = Field(default=60.0, gt=0)
    bulk_bytes: int = Field(default=16 * 1024 * 1024, ge=1, le=MAX_MESSAGE)
    concurrency: int = Field(default=1, ge=1)  #: handler processes
    #: Bulks at once in a process. None: 1 for `def`, as many as the prefetch fills for `async def`.
    in_flight: int | None = Field(default=None, ge=1)
    timeout: float = Field(default=1500.0, gt=0)  #: seconds for one bulk, under RabbitMQ's 30 min
    max_crashes: int = Field(default=3, ge=1)
    #: Messages after which a process is replaced, and bytes of memory at which it is. None: never.
    max_messages: int | None = Field(default=None, ge=1)
    max_memory: int | None = Field(default=None, ge=1)
    #: Of the queues, as a policy of RabbitMQ sets it: no client can see that. None: as declared.
    delivery_limit: int | None = Field(default=None, ge=1)
    order_by: Annotated[str, AfterValidator(_check_order_by)] = ""
    pool: str = ""  #: routes of one pool share handler processes
    requires: dict[str, str | int | bool] = Field(default_factory=dict)  #: of the handler's host
    on_success: Actions = Actions.ACK
    on_exception: Annotated[OnException | None, PlainValidator(check_on_exception)] = None
    connection_fail_callback: FailCallback | None = None


class AMQPRouteOptions(RouteOptions):
    """Options of `app.amqp.consume`, which may name the connection as well."""

    connection: Any = None  #: name of a connection, or the connection itself


class TimerOptions(Schema):
    """Options of `run_every`."""

    model_config = ConfigDict(frozen=True)
    noun: ClassVar[str] = "option"

    max_concurrency: int = Field(default=1, ge=1)  #: runs at once; a tick beyond is skipped
    singleton: bool = False  #: once over all replicas of the app


def policy_of(option: PolicyOption) -> Policy:
    """An action or a `Retry` in the words of `actors.logic.settlement.failure`."""
    if isinstance(option, Retry):
        return Policy(
            Outcome.RETRY,
            option.attempts,
            option.first,
            option.factor,
            option.cap,
            option.jitter,
            tuple(option.delays),
        )
    return Policy(Outcome[option.name])


def compile_table(on_exception: OnException | None) -> dict[type[BaseException], Policy]:
    """The table of a route, complete for `logic.failure.decide`.

    A bare action or `Retry` stands for what handlers raise and for timeouts; what can never
    succeed (`InvalidMessage`, `InvalidHandler`, `HandlerCrashed`) is dead-lettered unless it is
    named itself. What a mapping leaves out follows the default, `Retry()`.
    """
    if on_exception is None:
        on_exception = Retry()
    named = on_exception if isinstance(on_exception, Mapping) else {Exception: on_exception}
    table: dict[type[BaseException], Policy] = {Exception: policy_of(Retry())}
    table |= dict.fromkeys((InvalidMessage, InvalidHandler, HandlerCrashed), DEAD_LETTER)
    return table | {error: policy_of(option) for error, option in named.items()}
