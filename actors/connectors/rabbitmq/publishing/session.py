"""A connection that publishes, and proves what it stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pika import exceptions

from actors.connectors.rabbitmq.amqp import Link, Settings
from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.connectors.rabbitmq.publishing.confirming import ConfirmingChannel
from actors.connectors.rabbitmq.queues.declare import Declaration
from actors.errors import Fault, PublishError
from actors.logic.messages.entry import OutgoingMessage

_NO_ROUTE = 312

#: The outcome of a message for a queue that does not exist.
NO_QUEUE = "there is no such queue"

#: A reply code, 0 where the queue is there, and the cause for people.
Answer = tuple[int, str]


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
        self._channel: ConfirmingChannel[OutgoingMessage]
        self._ready = False  # the channel confirms
        self._lost: Stale | None = None
        try:
            self._link = Link(settings, purpose, self._loop, self._on_open, self._on_lost)
        except OSError as error:
            self._loop.close()
            raise PublishError(f"{settings}: {error}") from error

    @property
    def broker(self) -> dict[str, Any]:
        """What the broker says of itself, once it has."""
        return self._link.broker

    def send(self, messages: Sequence[OutgoingMessage], deadline: float) -> None:
        """Publishes, and returns once the outcome of each is known.

        Raises `Stale` where the connection ends before, and `PublishError` at the deadline.
        """
        self._loop.turn()  # a connection that ended since the last time says so now
        self._wait(lambda: self._ready, deadline)
        with self._link.together():
            for message in messages:
                if not self._channel.is_open:
                    raise self._lost or Stale("not connected")
                self._channel.publish(
                    message,
                    message.target,
                    message.body,
                    message.properties,
                    exchange=message.exchange,
                    mandatory=message.mandatory,
                )
        self._wait(lambda: not self._channel.unconfirmed, deadline)

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

    def declare(self, name: str, ways: Iterable[dict[str, Any]], deadline: float) -> Answer:
        """Declares a queue where there is none; without `ways`, only asks for it."""
        answer: list[Answer] = []
        self._wait(lambda: self._ready, deadline)
        Declaration(
            self._link, name, ways, lambda code, cause: answer.append((code, cause))
        ).begin()
        self._wait(lambda: bool(answer), deadline)
        return answer[0]

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
        self._channel = ConfirmingChannel(
            self._link,
            on_ready=self._on_ready,
            on_closed=self._on_channel_closed,
            on_confirmed=self._on_confirmed,
            on_returned=self._on_returned,
        )

    def _on_ready(self) -> None:
        self._ready = True

    def _on_channel_closed(self, reason: Exception) -> None:
        if isinstance(reason, exceptions.ChannelClosedByBroker):
            # An exchange that is missing or forbidden: the broker stays, and means the message.
            for message in self._channel.unconfirmed.values():
                message.outcome = f"{reason.reply_code} {reason.reply_text}"
            self._channel.unconfirmed.clear()
        self._on_lost(str(reason))

    def _on_lost(self, cause: str, fault: Fault = Fault.UNREACHABLE) -> None:
        self._lost = self._lost or Stale(cause, fault)
        self._ready = False

    def _on_confirmed(self, messages: list[OutgoingMessage], stored: bool) -> None:
        for message in messages:
            if not stored:
                message.outcome = "the broker refused to store it"
            elif message.outcome is None:
                message.outcome = ""

    def _on_returned(self, method: Any) -> None:
        cause = f"{method.reply_code} {method.reply_text}"
        if method.reply_code == _NO_ROUTE:
            cause = "no queue takes it" if method.exchange else NO_QUEUE
        for message in self._channel.unconfirmed.values():
            way = (message.exchange, message.target)
            if message.mandatory and way == (method.exchange, method.routing_key):
                message.outcome = cause
