"""Copies of deliveries to other queues, each proven stored before it is reported.

They travel on a connection of their own: a broker that is low on memory stops reading
from a connection that publishes, and acknowledgements behind a copy would wait with it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pika
from pika import spec
from pika.channel import Channel

from actors.clients import Move, Moved, MoveFailed
from actors.clients.amqp import Link, Settings
from actors.clients.ioloop import IOLoop
from actors.errors import Fault
from actors.logic.frames import Delivery, Mute
from actors.logic.properties import copied

#: Seconds from the call until a copy must be confirmed.
PATIENCE = 10.0

#: Seconds of the waiting queues. One time to live for each: a message leaves only at the
#: head, so a shorter one behind a longer one would wait with it.
STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

REASON_LIMIT = 2000  # characters; headers must fit into one frame


@dataclass(slots=True, eq=False)
class _Copy:
    move: Move
    target: str
    due: float


class _RawProperties(pika.BasicProperties):
    """Properties that are encoded already."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self.raw = raw

    def encode(self) -> list[bytes]:
        return [self.raw]


class Mover:
    """Carries out moves; connects with the first, and again after a loss with the next."""

    def __init__(
        self, settings: Settings, loop: IOLoop, report: Callable[[Moved | MoveFailed], None]
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._report = report
        self._link: Link | None = None
        self._channel: Channel | None = None  # open, confirming
        self._waiting: deque[_Copy] = deque()
        self._sent: dict[int, _Copy] = {}  # by delivery tag
        self._last_tag = 0
        self._existing: set[str] = set()
        self._declaring: set[str] = set()
        self._sweeping = False

    def move(self, move: Move) -> None:
        copy = _Copy(move, target(move), time.monotonic() + PATIENCE)
        if len(copy.target.encode()) > 255:
            self._fail([copy], f"queue name of more than 255 bytes: {copy.target}")
            return
        self._waiting.append(copy)
        if not self._sweeping:
            self._sweep()
        self._advance()

    def close(self) -> None:
        """Give up what is under way and close in order, as far as the loop is still turned."""
        if self._link is not None:
            self._link.leave()
        self._on_lost("the connection is closing", Fault.UNREACHABLE)

    def drop(self) -> None:
        if self._link is not None:
            self._link.drop()

    # ── towards a channel that confirms ──────────────────────────────────────

    def _advance(self) -> None:
        if self._link is None:
            self._connect()
        if self._channel is None:
            return
        waiting, self._waiting = self._waiting, deque()
        for copy in waiting:
            if copy.target in self._existing:
                self._publish(copy)
            else:
                self._waiting.append(copy)
                self._declare(copy)

    def _connect(self) -> None:
        try:
            self._link = Link(
                self._settings, "dead letters and retries", self._loop,
                self._open_channel, self._on_lost,
            )  # fmt: skip
        except OSError as error:
            self._on_lost(str(error), Fault.REFUSED)

    def _open_channel(self) -> None:
        if self._link is not None and self._link.is_open:
            self._link.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        assert self._link is not None
        # What cannot be routed comes back whole, with headers that pika may not survive.
        self._link.slicer.sinks[channel.channel_number] = Mute()
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_callback(self._on_returned, [spec.Basic.Return], one_shot=False)
        channel.confirm_delivery(self._on_confirm, callback=partial(self._on_confirming, channel))

    def _on_confirming(self, channel: Channel, _: Any) -> None:
        self._channel = channel
        self._last_tag = 0
        self._advance()

    def _on_channel_closed(self, channel: Channel, reason: Exception) -> None:
        self._channel = None
        if self._link is not None and not self._link.is_closed:
            self._link.slicer.sinks.pop(channel.channel_number, None)
            self._fail(list(self._sent.values()), str(reason))
            self._open_channel()

    def _on_lost(self, cause: str, fault: Fault) -> None:
        self._link = self._channel = None
        self._existing.clear()
        self._declaring.clear()
        self._fail([*self._sent.values(), *self._waiting], cause)

    # ── queues ───────────────────────────────────────────────────────────────

    def _declare(self, copy: _Copy) -> None:
        if copy.target not in self._declaring:
            self._declaring.add(copy.target)
            self._probe(copy, passive=True)

    def _probe(self, copy: _Copy, passive: bool) -> None:
        # A channel for each question: a queue that does not exist closes the one that asks.
        assert self._link is not None

        def ask(channel: Channel) -> None:
            channel.add_on_close_callback(answered)
            channel.queue_declare(
                copy.target,
                passive=passive,
                durable=True,
                arguments=None if passive else arguments(copy.move),
                callback=lambda _: channel.close(),
            )

        def answered(_: Channel, reason: Any) -> None:
            code = getattr(reason, "reply_code", 0)
            if self._link is None or self._link.is_closed:
                return
            if passive and code == 404:
                self._probe(copy, passive=False)
                return
            self._declaring.discard(copy.target)
            if code:
                affected = [other for other in self._waiting if other.target == copy.target]
                self._fail(affected, f"{copy.target}: {reason}")
            else:
                self._existing.add(copy.target)
                self._advance()

        self._link.channel(on_open_callback=ask)

    # ── copies ───────────────────────────────────────────────────────────────

    def _publish(self, copy: _Copy) -> None:
        assert self._channel is not None
        assert self._link is not None
        delivery = Delivery(copy.move.raw)
        properties = copied(
            delivery.properties, headers(copy.move), message_id(copy.move, delivery)
        )
        if len(properties) > self._link.frame_max - 32:
            self._fail([copy], f"{len(properties)} bytes of headers do not fit into a frame")
            return
        self._last_tag += 1
        self._sent[self._last_tag] = copy
        self._channel.basic_publish(
            "", copy.target, delivery.body, _RawProperties(properties), mandatory=True
        )

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        done = [sent for sent in self._sent if sent == tag or (multiple and sent < tag)]
        copies = [self._sent.pop(sent) for sent in done]
        if isinstance(frame.method, spec.Basic.Ack):
            for copy in copies:
                self._report(Moved(copy.move.token))
        else:
            self._fail(copies, "the broker refused to store it")

    def _on_returned(self, frame: Any) -> None:
        # A return names no copy, only the queue: all on their way there count as not
        # stored. A copy too many is better than none.
        name = frame.method.routing_key
        self._existing.discard(name)
        affected = [copy for copy in self._sent.values() if copy.target == name]
        self._fail(affected, f"{name}: {frame.method.reply_code} {frame.method.reply_text}")

    def _sweep(self) -> None:
        now = time.monotonic()
        late = [copy for copy in (*self._sent.values(), *self._waiting) if copy.due <= now]
        if late:
            blocked = self._link.blocked if self._link is not None else ""
            because = f": the broker takes no publishing: {blocked}" if blocked else ""
            self._fail(late, f"not confirmed within {PATIENCE:.0f} s{because}")
        self._sweeping = bool(self._sent or self._waiting)
        if self._sweeping:
            self._loop.call_later(1.0, self._sweep)

    def _fail(self, copies: Iterable[_Copy], cause: str) -> None:
        failed = set(copies)
        self._waiting = deque(copy for copy in self._waiting if copy not in failed)
        self._sent = {tag: copy for tag, copy in self._sent.items() if copy not in failed}
        for copy in failed:
            self._report(MoveFailed(copy.move.token, cause))


def target(move: Move) -> str:
    """The queue that a copy goes to."""
    return f"{move.queue}.dead" if move.dead else f"{move.queue}.retry.{step(move.delay)}"


def step(delay: float) -> int:
    """The seconds a retry really waits: never less than `delay`; whole hours beyond one."""
    for seconds in STEPS:
        if delay <= seconds:
            return seconds
    return math.ceil(delay / 3600) * 3600


def arguments(move: Move) -> dict[str, Any]:
    """With what the target is declared where it does not exist."""
    if move.dead:
        return {}
    return {
        "x-message-ttl": step(move.delay) * 1000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": move.queue,
    }


def headers(move: Move) -> dict[str, str | int]:
    """What a copy tells of its fate."""
    told: dict[str, str | int] = {
        "x-callboard-attempts": move.attempts if move.counted else max(0, move.attempts - 1)
    }
    if move.dead:
        told |= {
            "x-callboard-error": move.error[:REASON_LIMIT],
            "x-callboard-reason": move.reason[:REASON_LIMIT],
            "x-callboard-route": move.route,
            "x-callboard-queue": move.queue,
            "x-callboard-time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
    return told


def message_id(move: Move, delivery: Delivery) -> str:
    """The same for the same content however often it is delivered."""
    content = hashlib.blake2b(move.queue.encode(), digest_size=16)
    content.update(delivery.properties)
    content.update(delivery.body)
    return content.hexdigest()
