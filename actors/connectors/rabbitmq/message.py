"""A message of RabbitMQ, as a handler receives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from actors.api.message import Message
from actors.errors import InvalidMessage
from actors.logic.consuming.frames import Delivery
from actors.logic.messages.compression import GZIP, inflated

if TYPE_CHECKING:
    from pika.spec import BasicProperties

T = TypeVar("T")


class RabbitMQMessage(Message[T]):
    """A delivery of an AMQP broker."""

    __slots__ = ("_properties",)

    _properties: BasicProperties

    _keeps_jobs: ClassVar[bool] = False

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

    def _request(self) -> bytes:
        return self._delivery.properties if self.properties.reply_to else b""

    def _payload(self) -> bytes:
        if self.properties.content_encoding != GZIP:
            return self.serialized_data
        try:
            return inflated(self.serialized_data)
        except ValueError as error:
            raise InvalidMessage(str(error)) from None

    @property
    def _delivery(self) -> Delivery:
        if self._parsed is None:
            self._parsed = Delivery(self._raw)
        return self._parsed  # type: ignore[no-any-return]

    @classmethod
    def order_key(cls, raw: bytes, order_by: str) -> Any:
        delivery = Delivery(raw)
        if order_by == "routing_key":
            return delivery.routing_key
        headers = decode_properties(delivery.properties).headers or {}
        return headers.get(order_by.removeprefix("header:"), "")


def decode_properties(payload: bytes) -> BasicProperties:
    """AMQP properties from the payload of their frame; raises InvalidMessage."""
    from pika.spec import BasicProperties  # 15 ms that a spool need not pay

    properties = BasicProperties()
    try:
        properties.decode(payload)
    except Exception as error:  # whatever pika raises on dates past 9999, deep tables, cut ones
        raise InvalidMessage(f"properties: {type(error).__name__}: {error}") from None
    return properties
