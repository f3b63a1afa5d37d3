"""A connection that publishes, and proves what it stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pika import exceptions, spec
from pika.channel import Channel

from actors.connectors.rabbitmq.amqp import Link, Settings
from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.errors import Fault, PublishError
from actors.logic.entry import Outgoing
from actors.logic.frames import Mute

_NO_ROUTE = 312


class Stale(PublishError):
    """The connection was lost under way, or could not be made."""

    def __init__(self, cause: str, fault: Fault = Fault.UNREACHABLE) -> None:
        super().__init__(cause)
        self.fault = fault


class Session:
    """One connection, its channel, and the loop that only turns while somebody waits."""

    def __init__(self, settings: Settings, purpose: str = "publisher") -> None:
        self._settings = settings
        self._loop = IOLoop()
        self._channel: Channel | None = None
        self._lost: Stale | None = None
        self._last_tag = 0
        self._unconfirmed: dict[int, Outgoing] = {}
        try:
            self._link = Link(settings, purpose, self._loop, self._on_open, self._on_lost)
        except OSError as error:
            self._loop.close()
            raise PublishError(f"{settings}: {error}") from error

    @property
    def broker(self) -> dict[str, Any]:
        """What the broker says of itself, once it has."""
        return self._link.broker

    def send(self, messages: Sequence[Outgoing], deadline: float) -> None:
        """Publish, and wait until the outcome of each is known.

        Raises `Stale` where the connection ends before, and `PublishError` at the deadline.
        """
        self._loop.turn()  # a connection that ended since the last time says so now
        self._wait(lambda: self._channel is not None, deadline)
        for message in messages:
            if self._channel is None:
                raise self._lost or Stale("not connected")
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = message
            self._channel.basic_publish(
                message.exchange,
                message.routing_key,
                message.body,
                message.properties,
                mandatory=message.mandatory,
            )
        self._wait(lambda: not self._unconfirmed, deadline)

    def close(self) -> None:
        """In order where the broker still answers, otherwise at once."""
        if self._link.is_open:
            self._link.close()
            until = time.monotonic() + 0.5
            while not self._link.is_closed and time.monotonic() < until:
                self._loop.turn(0.05)
        self._link.drop()
        for _ in range(2):
            self._loop.turn()
        self._loop.close()

    def declare(self, name: str, arguments: dict[str, Any] | None, deadline: float) -> bool:
        """Make a queue; without arguments, only ask for it. Whether it exists now."""
        answer: list[int] = []

        # A channel for each question: a queue that does not exist closes the one that asks.
        def ask(channel: Channel) -> None:
            channel.add_on_close_callback(lambda _, why: answer.append(_code(why)))
            channel.queue_declare(
                name,
                passive=arguments is None,
                durable=True,
                arguments=arguments,
                callback=lambda _: channel.close(),
            )

        self._wait(lambda: self._channel is not None, deadline)
        self._link.briefly(ask)
        self._wait(lambda: bool(answer), deadline)
        if answer[0] not in (0, 404):
            raise PublishError(f"{self._settings}: {name}: cannot be declared ({answer[0]})")
        return answer[0] == 0

    def _wait(self, done: Callable[[], bool], deadline: float) -> None:
        while not done():
            if self._lost:
                raise self._lost
            now = time.monotonic()
            if now >= deadline:
                because = f": it takes no publishing: {self._link.blocked}"
                raise PublishError(
                    f"{self._settings}: no answer in time{because if self._link.blocked else ''}"
                )
            due = self._loop.deadline()
            self._loop.turn(max(0.0, min(deadline, due or deadline) - now))

    # ── towards a channel that confirms ──────────────────────────────────────

    def _on_open(self) -> None:
        self._link.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        # What cannot be routed comes back whole, and nobody wants to decode it.
        self._link.slicer.sinks[channel.channel_number] = Mute()
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_callback(self._on_returned, [spec.Basic.Return], one_shot=False)

        def confirming(_: Any) -> None:
            self._channel = channel

        channel.confirm_delivery(self._on_confirm, callback=confirming)

    def _on_channel_closed(self, _: Channel, reason: Exception) -> None:
        if isinstance(reason, exceptions.ChannelClosedByBroker):
            # An exchange that is missing or forbidden: the broker stays, and means the message.
            for message in self._unconfirmed.values():
                message.outcome = f"{reason.reply_code} {reason.reply_text}"
            self._unconfirmed.clear()
        self._on_lost(str(reason))

    def _on_lost(self, cause: str, fault: Fault = Fault.UNREACHABLE) -> None:
        self._lost = self._lost or Stale(cause, fault)
        self._channel = None

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        for done in [t for t in self._unconfirmed if t == tag or (multiple and t < tag)]:
            message = self._unconfirmed.pop(done)
            if isinstance(frame.method, spec.Basic.Nack):
                message.outcome = "the broker refused to store it"
            elif message.outcome is None:
                message.outcome = ""

    def _on_returned(self, frame: Any) -> None:
        # A return names no message, only its way; the confirm comes after it.
        method = frame.method
        cause = f"{method.reply_code} {method.reply_text}"
        if method.reply_code == _NO_ROUTE:
            cause = "there is no such queue" if not method.exchange else "no queue takes it"
        for message in self._unconfirmed.values():
            way = (message.exchange, message.routing_key)
            if message.mandatory and way == (method.exchange, method.routing_key):
                message.outcome = cause


def _code(why: Exception) -> int:
    return int(getattr(why, "reply_code", 0))
