"""The messages that a handler receives.

A message is made from one raw delivery and decodes nothing before it is read:
a handler that only counts its messages pays for none of their contents.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from pydantic_core import from_json

from actors.errors import InvalidMessage
from actors.log import own_logger
from actors.logic.jobs.job import Answer
from actors.logic.messages.entry import MAX_DELAY, check_seconds
from actors.logic.settlement.failure import Outcome, describe

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

logger = own_logger("actors.handler")

_UNREAD = object()


class Mark(NamedTuple):
    """A handler's word on one message."""

    outcome: Outcome
    delay: float = 0.0  #: seconds
    reason: str = ""
    error: str = ""  #: class of the exception, of a job that failed


class Handout:
    """The state that the messages of one bulk share while the handler has them."""

    __slots__ = ("answers", "closed", "decode", "invalid", "marks", "route", "share")

    def __init__(self, route: str, decode: Callable[[bytes], Any]) -> None:
        self.route = route
        self.decode = decode
        self.marks: dict[int, Mark] = {}  #: by index in the bulk
        self.invalid: dict[int, InvalidMessage] = {}  #: why a message cannot be decoded
        self.answers: dict[int, Answer] = {}  #: of jobs, by index in the bulk
        self.share: Any = None  #: the bulk as it came
        self.closed = False  #: settled: marks come too late


class Message(Generic[T]):
    """One delivery. What is marked last holds; what is not marked follows the bulk."""

    __slots__ = ("_before", "_body", "_handout", "_index", "_parsed", "_raw", "queue")

    queue: str

    #: Whether its store keeps what becomes of jobs; otherwise only whoever waits hears of it.
    _keeps_jobs: ClassVar[bool] = True

    def __init__(
        self, raw: bytes, handout: Handout, index: int = 0, queue: str = "", attempts: int = 0
    ) -> None:
        self._raw = raw
        self._handout = handout
        self._index = index
        self._before = attempts
        self._parsed: Any = None
        self._body: Any = _UNREAD
        self.queue = queue

    @classmethod
    def order_key(cls, raw: bytes, order_by: str) -> Any:
        """The value that keeps messages in order: `order_by` is "routing_key" (of a spool the
        queue) or "header:NAME". May raise whatever an unreadable message makes it raise."""
        raise NotImplementedError

    @property
    def body(self) -> T:
        """The decoded message, of the type that the handler asks for.

        Raises InvalidMessage, which also settles this message as invalid
        where no mark says otherwise.
        """
        if self._body is _UNREAD:
            if self._index in self._handout.invalid:
                raise self._handout.invalid[self._index]
            try:
                self._body = self._handout.decode(self.serialized_data)
            except InvalidMessage as error:
                raise self._is_invalid(error) from None
        return self._body  # type: ignore[no-any-return]

    @property
    def serialized_data(self) -> bytes:
        """The body as it came."""
        raise NotImplementedError

    @property
    def headers(self) -> dict[str, Any]:
        """Headers as sent; raises InvalidMessage where they cannot be decoded."""
        raise NotImplementedError

    @property
    def id(self) -> str:
        """The identity that its sender or its store gave it; empty where there is none."""
        raise NotImplementedError

    @property
    def attempts(self) -> int:
        """How often it was handed out before, as far as anyone counted."""
        return self._before

    @property
    def redelivered(self) -> bool:
        """It may have been handed out before."""
        return self._before > 0

    @property
    def route(self) -> str:
        return self._handout.route

    def accept(self) -> None:
        """Acknowledge this message, whatever becomes of the others."""
        self._mark(Mark(Outcome.ACK))

    def reject(
        self, requeue: bool = True, *, delay: float | None = None, reason: str | None = None
    ) -> None:
        """Give it back, not before `delay` seconds; or, without `requeue`, reject it for good:
        the broker drops it or hands it to the queue's dead-letter exchange.
        """
        if not isinstance(requeue, bool):
            raise TypeError(f"requeue must be True or False, not {type(requeue).__name__}")
        if delay is not None:
            if not requeue:
                raise ValueError("delay needs requeue=True: what is rejected does not come back")
            check_seconds("delay", delay, MAX_DELAY)
        outcome = Outcome.REQUEUE if requeue else Outcome.REJECT
        self._mark(Mark(outcome, float(delay or 0), reason or ""))

    def dead_letter(self, reason: str) -> None:
        """Put it to `<queue>.dead` with the reason, and acknowledge it once that is done."""
        self._mark(Mark(Outcome.DEAD_LETTER, 0.0, reason))

    def snooze(self, seconds: float) -> None:
        """Hand it out again after so many seconds, without counting an attempt.

        It comes back as `redelivered`, with the `attempts` that it had, 1 at the least.
        """
        check_seconds("seconds", seconds, MAX_DELAY)
        self._mark(Mark(Outcome.SNOOZE, float(seconds)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.queue!r}>"

    def _mark(self, mark: Mark) -> None:
        if self._handout.closed:
            logger.warning(
                "route %s: a message was marked after its bulk was settled; "
                "the mark (%s) is ignored",
                self.route,
                mark.outcome.name,
            )
        else:
            self._handout.marks[self._index] = mark

    def _request(self) -> bytes:
        """Its AMQP properties, where its sender waits for a reply. Raises InvalidMessage."""
        return b""

    def _payload(self) -> bytes:
        """The body without its content encoding. Raises InvalidMessage."""
        return self.serialized_data

    def _is_invalid(self, error: InvalidMessage) -> InvalidMessage:
        return self._handout.invalid.setdefault(self._index, error)


def decode_json(data: bytes) -> Any:
    """The value of a JSON text; raises InvalidMessage."""
    try:
        return from_json(data)  # in a tenth of the time that json takes …
    except ValueError:
        pass
    try:
        value = json.loads(data)  # … which takes more: 202 levels and deeper, a BOM, UTF-16
        json.dumps(value, ensure_ascii=False).encode()  # but half a character is no text
    except (ValueError, RecursionError) as error:  # RecursionError: nested beyond measure
        raise InvalidMessage(f"not JSON: {error}") from None
    return value


def decode_text(data: bytes) -> Any:
    """The value of a JSON text, or the text itself where it is not JSON."""
    try:
        return decode_json(data)
    except InvalidMessage:
        return data.decode("utf-8", "replace")


def decoder_for(adapter: TypeAdapter[Any] | None, plain_text: bool) -> Callable[[bytes], Any]:
    """A decoder of JSON into the type that a handler asks for; None: any JSON.

    Both read the same texts as JSON. With `plain_text`, a body that is not JSON is a text.
    """
    read = decode_text if plain_text else decode_json
    if adapter is None:
        return read
    from pydantic import ValidationError

    def validate(data: bytes) -> Any:
        try:
            return adapter.validate_json(data)
        except ValidationError as error:
            if not _is_no_json(error):
                raise
        value = read(data)
        if isinstance(value, str):  # it may stand for what Python has other types for
            return adapter.validate_json(json.dumps(value))
        try:
            return adapter.validate_json(data.decode(json.detect_encoding(data)))
        except ValidationError as error:
            if not _is_no_json(error):
                raise
        return adapter.validate_python(value)  # deeper than pydantic parses

    def decode(data: bytes) -> Any:
        try:
            try:
                return validate(data)
            except ValidationError as error:
                reason = _without_input(error.errors())
        except InvalidMessage:
            raise
        except Exception as error:  # a validator may raise anything, also when it is asked what
            reason = describe(error)
        raise InvalidMessage(reason)

    return decode


def _is_no_json(error: ValidationError) -> bool:
    """Whether the whole text could not be parsed."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return first["type"] == "json_invalid" and not first["loc"]


def _without_input(errors: list[Any]) -> str:
    """What is wrong, without the input itself: bodies belong into no log."""
    first = "; ".join(
        f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}" for error in errors[:3]
    )
    return first if len(errors) <= 3 else f"{first}; and {len(errors) - 3} more"
