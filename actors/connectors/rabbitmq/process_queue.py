"""The queue of one process: replies to its calls, or events of the topics that it listens to."""

from __future__ import annotations

import threading
import time
import uuid
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pika.channel import Channel

from actors.connectors.rabbitmq.amqp import NO_STREAM, Link, Settings, explain_channel
from actors.connectors.rabbitmq.consumer import Consumer
from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.connectors.rabbitmq.queues.declare import FORBIDDEN, MISSING, code_of
from actors.errors import Fault, UnreachableError
from actors.log import own_logger
from actors.logic.consuming.flow import Flow
from actors.logic.consuming.frames import Delivery, DeliveryBuffer

#: Milliseconds for which the queue outlives its last consumer: a process that comes back sooner
#: finds what came meanwhile. A transient queue would do, but 4.3 has none.
EXPIRES_MS = 60_000

#: Seconds between two tries to connect, the first after none.
PAUSES_S = (0.0, 0.1, 0.2, 0.5, 1.0)

#: Seconds for an orderly end.
CLOSE_S = 0.5

#: The exchange that topics go through: every vhost has it, so that nobody need declare one.
EXCHANGE = "amq.direct"

_TAG = "callboard"
_WINDOW = 65535

logger = own_logger("actors.caller")


class ProcessQueue:
    """A durable queue of one process, consumed by a thread of its own; made anew where it is
    gone."""

    def __init__(
        self,
        settings: Settings,
        purpose: str,
        on_deliveries: Callable[[Sequence[Delivery]], None],
        on_gone: Callable[[], None],
    ) -> None:
        """`purpose` is a part of its name; `on_deliveries` gets what came, `on_gone` hears that
        the queue was deleted with what was in it; both in the thread."""
        self.name = f"callboard.{purpose}.{uuid.uuid4().hex}"
        self._purpose = purpose
        self._settings = settings
        self._on_deliveries = on_deliveries
        self._wanted: set[str] = set()  # keys of `EXCHANGE` that lead here
        self._bound: set[str] = set()
        self._on_gone = on_gone
        self._loop = IOLoop()
        self._link: Link | None = None
        self._channel: Channel | None = None
        self._consumer: Consumer | None = None
        self._was_there = False
        self._tries = 0
        self._closing = False
        self._changed = threading.Condition()
        self._is_ready = False
        self._cause, self._is_refused = "", False
        self._thread = threading.Thread(target=self._run, name=purpose, daemon=True)
        self._thread.start()

    def bind(self, key: str) -> None:
        """Has what `EXCHANGE` gets under a key come here as well, from the next `wait_ready` on."""
        with self._changed:
            self._wanted.add(key)
        self._loop.add_callback(self._bind_wanted)

    def wait_ready(self, timeout: float) -> None:
        """Returns once whatever is sent here would be found. Raises `UnreachableError`."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_open_for_all or self._is_refused, timeout)
            if not self._is_open_for_all:
                raise UnreachableError(self._cause or f"{self._settings}: no answer in time")

    def close(self) -> None:
        """Deletes the queue and lets go."""
        self._closing = True
        self._loop.add_callback(self._delete)
        self._thread.join(2 * CLOSE_S)

    @property
    def _is_open_for_all(self) -> bool:
        return self._is_ready and self._wanted <= self._bound

    # ── in the thread ─────────────────────────────────────────────────────────

    def _run(self) -> None:
        self._connect()
        until = float("inf")
        while time.monotonic() < until:
            due = self._loop.deadline()
            wait = 1.0 if due is None else min(1.0, max(0.0, due - time.monotonic()))
            try:
                self._loop.turn(wait)
                self._take()
            except Exception as error:  # pika's own: callers have time-outs
                logger.exception("%s: pika failed", self._settings)
                if self._link is not None:
                    self._link.drop()
                self._on_lost(f"{self._settings}: {error!r}", Fault.UNREACHABLE)
            if self._closing:
                until = min(until, time.monotonic() + CLOSE_S)
                if self._link is None or self._link.is_closed:
                    break
        if self._link is not None:
            self._link.drop()
            self._loop.turn()
        self._loop.close()

    def _connect(self) -> None:
        if self._closing:
            return
        try:
            self._link = Link(self._settings, self._purpose, self._loop, self._open, self._on_lost)
        except OSError as error:
            self._on_lost(f"{self._settings}: TLS files: {error}", Fault.REFUSED)

    def _open(self) -> None:
        if self._link is not None and self._link.is_open:
            self._link.channel(on_open_callback=self._declare)

    def _declare(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(lambda _: channel.close())
        channel.queue_declare(
            self.name,
            passive=self._was_there,
            durable=True,
            arguments={"x-queue-type": "classic", "x-expires": EXPIRES_MS},
            callback=partial(self._consume, channel),
        )

    def _consume(self, channel: Channel, _: Any) -> None:
        if self._link is None or not channel.is_open:
            return
        self._was_there = True
        buffer = DeliveryBuffer(channel.channel_number, self.name, 1)
        self._link.slicer.sinks[channel.channel_number] = buffer
        consumer = Consumer(self.name, 1, _WINDOW, _WINDOW, channel, buffer, Flow(_WINDOW))
        self._consumer = consumer
        channel.basic_consume(
            self.name,
            consumer.deliver,
            auto_ack=True,
            consumer_tag=_TAG,
            arguments=NO_STREAM,
            callback=self._on_consuming,
        )

    def _on_consuming(self, _: Any) -> None:
        self._say(is_ready=True)
        self._bind_wanted()

    def _bind_wanted(self) -> None:
        channel = self._channel
        if self._is_ready and channel is not None and channel.is_open:
            for key in self._wanted - self._bound:
                channel.queue_bind(
                    self.name, EXCHANGE, key, callback=partial(self._on_bound, channel, key)
                )

    def _on_bound(self, channel: Channel, key: str, _: Any) -> None:
        with self._changed:
            if channel is self._channel:
                self._bound.add(key)
                self._changed.notify_all()

    def _take(self) -> None:
        if self._consumer is None:
            return
        if fetched := self._consumer.take():
            ends = array("I", fetched.ends)
            starts = (0, *ends[:-1])
            self._on_deliveries(
                [Delivery(fetched.blob[i:j]) for i, j in zip(starts, ends, strict=True)]
            )

    def _on_channel_closed(self, channel: Channel, reason: Any) -> None:
        if channel is not self._channel:
            return
        self._take()
        self._channel = self._consumer = None
        if self._link is None or self._link.is_closed or self._closing:
            return  # the link tells it
        self._link.slicer.sinks.pop(channel.channel_number, None)
        code = code_of(reason)
        if code == MISSING:
            self._was_there = False
            self._bound.clear()
            self._on_gone()
        cause, fault = explain_channel(reason)
        if code == FORBIDDEN:
            cause += rf": it needs configure, read and write on ^callboard\.{self._purpose}\."
        self._say(is_ready=False, cause=f"{self._settings}: {cause}", fault=fault)
        self._again(self._open)

    def _on_lost(self, cause: str, fault: Fault) -> None:
        self._take()
        self._link = self._channel = self._consumer = None
        self._say(is_ready=False, cause=cause, fault=fault)
        self._again(self._connect)

    def _again(self, action: Callable[[], None]) -> None:
        pause = PAUSES_S[min(self._tries, len(PAUSES_S) - 1)]
        self._tries += 1
        self._loop.call_later(pause, action)

    def _say(self, *, is_ready: bool, cause: str = "", fault: Fault = Fault.UNREACHABLE) -> None:
        if is_ready:
            self._tries = 0
        with self._changed:
            self._is_ready, self._cause = is_ready, cause
            self._is_refused = not is_ready and fault is Fault.REFUSED
            self._changed.notify_all()

    def _delete(self) -> None:
        channel, link = self._channel, self._link
        if channel is not None and channel.is_open and link is not None:
            channel.queue_delete(self.name, callback=lambda _: link.close())
        elif link is not None:
            link.drop()
