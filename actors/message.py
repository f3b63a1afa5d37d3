"""What a handler receives.

A message is made from one raw delivery and decodes nothing before it is read:
a handler that only counts its messages pays for none of their contents.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from actors.decoding import decode_properties, read_headers
from actors.errors import InvalidMessage
from actors.logic.failure import Verdict
from actors.logic.frames import Delivery
from actors.logic.records import Record, unpack

if TYPE_CHECKING:
    from pika.spec import BasicProperties

T = TypeVar("T")

#: Header that carries the hand-outs so far of a message that came back by a detour.
ATTEMPTS_HEADER = "x-callboard-attempts"

logger = logging.getLogger("actors.handler")

_UNREAD = object()


class Mark(NamedTuple):
    """What a handler said of one message."""

    verdict: Verdict
    delay: float = 0.0  #: seconds
    reason: str = ""


class Handout:
    """What the messages of one bulk share while the handler has them."""

    __slots__ = ("closed", "decode", "invalid", "marks", "route")

    def __init__(self, route: str, decode: Callable[[bytes], Any]) -> None:
        self.route = route
        self.decode = decode
        self.marks: dict[int, Mark] = {}  #: by index in the bulk
        self.invalid: dict[int, InvalidMessage] = {}  #: why a message cannot be decoded
        self.closed = False  #: settled: marks come too late


class Message(Generic[T]):
    """One delivery. What is marked last holds; what is not marked follows the bulk."""

    __slots__ = ("_before", "_body", "_handout", "_index", "_parsed", "_raw", "queue")

    queue: str

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

    @property
    def body(self) -> T:
        """The decoded message, of the type that the handler asks for.

        Raises UndecodableMessageException, which also settles this message as invalid
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
        self._mark(Mark(Verdict.ACK))

    def reject(
        self, requeue: bool = True, *, delay: float | None = None, reason: str | None = None
    ) -> None:
        """Give it back, not before `delay` seconds; or, without `requeue`, reject it for good:
        the broker drops it or hands it to the queue's dead-letter exchange.
        """
        if delay is not None and not requeue:
            raise ValueError("delay needs requeue=True: what is rejected does not come back")
        verdict = Verdict.REQUEUE if requeue else Verdict.REJECT
        self._mark(Mark(verdict, _seconds(delay or 0.0), reason or ""))

    def dead_letter(self, reason: str) -> None:
        """Put it to `<queue>.dead` with the reason, and acknowledge it once that is done."""
        self._mark(Mark(Verdict.DEAD_LETTER, 0.0, reason))

    def snooze(self, seconds: float) -> None:
        """Hand it out again after so many seconds, without counting an attempt."""
        self._mark(Mark(Verdict.SNOOZE, _seconds(seconds)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.queue!r}>"

    def _mark(self, mark: Mark) -> None:
        if self._handout.closed:
            logger.warning(
                "route %s: a message was marked after its bulk was settled; "
                "the mark (%s) is ignored",
                self.route,
                mark.verdict.name,
            )
        else:
            self._handout.marks[self._index] = mark

    def _is_invalid(self, error: InvalidMessage) -> InvalidMessage:
        return self._handout.invalid.setdefault(self._index, error)


class RabbitMQMessage(Message[T]):
    """A delivery of an AMQP broker."""

    __slots__ = ("_properties",)

    _properties: BasicProperties

    @property
    def serialized_data(self) -> bytes:
        return self._delivery.body

    @property
    def properties(self) -> BasicProperties:
        """The AMQP properties; raises InvalidMessage where they cannot be decoded."""
        try:
            return self._properties
        except AttributeError:
            pass
        try:
            self._properties = decode_properties(self._delivery.properties)
        except InvalidMessage as error:
            raise self._is_invalid(error) from None
        return self._properties

    @property
    def headers(self) -> dict[str, Any]:
        return dict(self.properties.headers or {})

    @property
    def id(self) -> str:
        return self.properties.message_id or ""

    @property
    def exchange(self) -> str:
        return self._delivery.exchange

    @property
    def routing_key(self) -> str:
        return self._delivery.routing_key

    @property
    def attempts(self) -> int:
        counts = [self._before, int(self._delivery.redelivered)]
        try:
            headers = decode_properties(self._delivery.properties).headers or {}
        except InvalidMessage:
            headers = {}  # a count is wanted of poison too
        for name in (ATTEMPTS_HEADER, "x-delivery-count"):
            if isinstance(headers.get(name), int):
                counts.append(headers[name])
        return max(counts)

    @property
    def redelivered(self) -> bool:
        return self._before > 0 or self._delivery.redelivered

    @property
    def _delivery(self) -> Delivery:
        if self._parsed is None:
            self._parsed = Delivery(self._raw)
        return self._parsed  # type: ignore[no-any-return]


class SpoolMessage(Message[T]):
    """A delivery of the embedded spool."""

    __slots__ = ()

    @property
    def serialized_data(self) -> bytes:
        return self._record.body

    @property
    def headers(self) -> dict[str, Any]:
        try:
            return read_headers(self._record)
        except InvalidMessage as error:
            raise self._is_invalid(error) from None

    @property
    def id(self) -> str:
        return str(self._record.id)

    @property
    def attempts(self) -> int:
        return max(self._before, self._record.attempts)

    @property
    def redelivered(self) -> bool:
        return self.attempts > 0

    @property
    def _record(self) -> Record:
        if self._parsed is None:
            self._parsed = unpack(self._raw)
        return self._parsed  # type: ignore[no-any-return]


class Event(SpoolMessage[T]):
    """A Server-Sent Event: `id` is its last event id, `name` its type."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return str(self.headers.get("event", ""))


#: Which message a connection of a kind delivers.
KINDS: dict[str, type[Message[Any]]] = {
    "amqp": RabbitMQMessage,
    "spool": SpoolMessage,
    "sse": Event,
}


def order_key(kind: str, raw: bytes, order_by: str) -> str:
    """What messages are kept in order by, `ORDER_BY` of a route: "routing_key" (on a spool
    the queue) or "header:NAME". Empty where it cannot be read: never raises.
    """
    try:
        if kind == "amqp":
            delivery = Delivery(raw)
            if order_by == "routing_key":
                return delivery.routing_key
            headers = decode_properties(delivery.properties).headers or {}
        else:
            record = unpack(raw)
            if order_by == "routing_key":
                return record.queue
            headers = read_headers(record)
        value = headers.get(order_by.removeprefix("header:"), "")
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    except Exception:
        return ""


def _seconds(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"delay: {value!r} is not a number of seconds")
    return float(value)
