"""The messages of each kind of connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from actors.api.decoding import decode_properties, read_headers
from actors.api.message import Message
from actors.errors import InvalidMessage
from actors.logic.frames import Delivery
from actors.logic.records import Record, unpack

if TYPE_CHECKING:
    from pika.spec import BasicProperties

T = TypeVar("T")


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
        return max(self._before, int(self._delivery.redelivered))

    @property
    def redelivered(self) -> bool:
        # A copy that waited outside its queue is new to the broker: its count tells.
        return self.attempts > 0

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
    """A Server-Sent Event. `body` is the value of its JSON, or the text where it is not JSON."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Its type; "message" where the stream names none."""
        return str(self.headers.get("event", "message"))

    @property
    def data(self) -> str:
        """The text as it came, its lines joined."""
        return self.serialized_data.decode("utf-8", "replace")

    @property
    def id(self) -> str:
        """The last event id of the stream; empty where there is none."""
        return str(self.headers.get("id", self._record.id))

    @property
    def retry(self) -> int | None:
        """Milliseconds to wait before connecting again, where this event named them."""
        retry: int | None = self.headers.get("retry")
        return retry


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
