"""The one way in which messages are published: on a channel that confirms each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from pika import spec
from pika.channel import Channel

from actors.connectors.rabbitmq.amqp import Link
from actors.logic.consuming.frames import Mute

M = TypeVar("M")


class ConfirmingChannel(Generic[M]):
    """Publishes messages and reports of each whether the broker has stored it.

    A return comes before its confirm, and names no message, only where it went.
    """

    def __init__(
        self,
        link: Link,
        *,
        on_ready: Callable[[], None],
        on_closed: Callable[[Exception], None],
        on_confirmed: Callable[[list[M], bool], None],
        on_returned: Callable[[Any], None],
    ) -> None:
        """`on_confirmed` gets messages and whether they are stored; `on_returned` the method."""
        self.unconfirmed: dict[int, M] = {}  #: by delivery tag
        self._link = link
        self._on_ready = on_ready
        self._on_closed = on_closed
        self._on_confirmed = on_confirmed
        self._on_returned = on_returned
        self._last_tag = 0
        self._channel: Channel | None = None
        link.channel(on_open_callback=self._on_open)

    @property
    def is_open(self) -> bool:
        return self._channel is not None and bool(self._channel.is_open)

    def publish(
        self,
        message: M,
        routing_key: str,
        body: bytes,
        properties: Any,
        *,
        exchange: str = "",
        mandatory: bool = True,
    ) -> None:
        """Sends a message, which is unconfirmed from then on. Raises what pika raises."""
        assert self._channel is not None
        self._channel.basic_publish(exchange, routing_key, body, properties, mandatory=mandatory)
        self._last_tag += 1
        self.unconfirmed[self._last_tag] = message

    def notify(self, routing_key: str, body: bytes, properties: Any) -> None:
        """Sends a message of which nobody wants to hear. Raises what pika raises."""
        assert self._channel is not None
        self._channel.basic_publish("", routing_key, body, properties)
        self._last_tag += 1

    def forget(self, messages: Iterable[M]) -> None:
        """Nobody wants to hear of these any more."""
        gone = set(map(id, messages))
        self.unconfirmed = {t: m for t, m in self.unconfirmed.items() if id(m) not in gone}

    def _on_open(self, channel: Channel) -> None:
        # What cannot be routed comes back whole, with headers that pika may not survive.
        self._link.slicer.sinks[channel.channel_number] = Mute()
        channel.add_on_close_callback(self._on_close)
        channel.add_callback(
            lambda frame: self._on_returned(frame.method), [spec.Basic.Return], one_shot=False
        )

        def ready(_: Any) -> None:
            self._channel = channel
            self._on_ready()

        channel.confirm_delivery(self._on_confirm, callback=ready)

    def _on_close(self, channel: Channel, reason: Exception) -> None:
        self._channel = None
        if not self._link.is_closed:
            self._link.slicer.sinks.pop(channel.channel_number, None)
        self._on_closed(reason)

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        done = [sent for sent in self.unconfirmed if sent == tag or (multiple and sent < tag)]
        messages = [self.unconfirmed.pop(sent) for sent in done]
        self._on_confirmed(messages, isinstance(frame.method, spec.Basic.Ack))
