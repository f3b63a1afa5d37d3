"""Publishing to RabbitMQ from any thread, each message proven stored before `put` returns."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakSet

import pika
from pika import exceptions, spec
from pika.channel import Channel

from actors.clients.amqp import Link, Settings
from actors.clients.ioloop import IOLoop
from actors.clients.mover import step
from actors.errors import Fault, PublishError
from actors.logic.entry import Entry
from actors.logic.frames import Mute

#: Seconds. Nobody sends heartbeats between two puts, so that a connection that was not used
#: for half of theirs is made anew.
HEARTBEAT = 30
IDLE = 15.0


class _Stale(PublishError):
    """The connection was lost under way."""


class AMQPPublisher:
    """One connection to a broker, made with the first `put`, and again where it was lost.

    Safe for threads; a forked child makes a connection of its own.
    """

    def __init__(self, settings: str) -> None:
        """`settings` as `UnitPlan.settings` has them."""
        self._settings = dataclasses.replace(Settings.parse(settings), heartbeat=HEARTBEAT)
        self._session: _Session | None = None
        self._used = 0.0
        self.reset()
        _publishers.add(self)

    def put(self, queue: str, entries: Sequence[Entry], timeout: float = 5.0) -> list[str]:
        """Store all, in order, and return their ids; on a `PublishError` some may be stored.

        A queue that does not exist is not made. A connection lost under way is made anew
        once, and the messages are sent again under the same ids.
        """
        ids = [entry.id or os.urandom(16).hex() for entry in entries]
        messages = [(entry, _properties(entry, id)) for entry, id in zip(entries, ids, strict=True)]
        deadline = time.monotonic() + timeout
        with self._alone(timeout):
            used_before = self._session is not None
            try:
                self._put(queue, messages, deadline)
            except _Stale:
                if not used_before:
                    raise
                self._put(queue, messages, deadline)
        return ids

    def close(self) -> None:
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    def reset(self) -> None:
        """In a forked child: the parent goes on with what was inherited, so touch nothing."""
        self._inherited, self._session = self._session, None
        self._lock = Lock()

    @contextmanager
    def _alone(self, timeout: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=timeout):
            raise PublishError(f"{self._settings}: busy for {timeout:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _put(
        self, queue: str, messages: list[tuple[Entry, pika.BasicProperties]], deadline: float
    ) -> None:
        if self._session is not None and time.monotonic() - self._used > IDLE:
            self._session.close()
            self._session = None
        if self._session is None:
            self._session = _Session(self._settings)
        try:
            self._session.put(queue, messages, deadline)
        except BaseException:
            self._session.close()
            self._session = None
            raise
        self._used = time.monotonic()


class _Session:
    """One connection, its channel, and the loop that only turns while somebody waits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = IOLoop()
        self._channel: Channel | None = None
        self._lost = ""
        self._refused = ""  #: why the broker did not store what was sent
        self._last_tag = 0
        self._unconfirmed: set[int] = set()
        self._waiting_queues: set[tuple[str, int]] = set()
        try:
            self._link = Link(settings, "publisher", self._loop, self._on_open, self._on_lost)
        except OSError as error:
            self._loop.close()
            raise PublishError(f"{settings}: {error}") from error

    def put(
        self, queue: str, messages: list[tuple[Entry, pika.BasicProperties]], deadline: float
    ) -> None:
        self._loop.turn()  # a connection that ended since the last time says so now
        self._wait(lambda: self._channel is not None, deadline)
        for entry, properties in messages:
            target = self._waiting(queue, entry.delay, deadline) if entry.delay else queue
            self._publish(target, entry.body, properties)
        self._wait(lambda: not self._unconfirmed or bool(self._refused), deadline)
        if self._refused:
            raise PublishError(f"{self._settings}: {queue}: {self._refused}")

    def _publish(self, queue: str, body: bytes, properties: pika.BasicProperties) -> None:
        if self._channel is None:
            raise _Stale(self._lost)
        self._last_tag += 1
        self._unconfirmed.add(self._last_tag)
        self._channel.basic_publish("", queue, body, properties, mandatory=True)

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

    def _wait(self, done: Callable[[], bool], deadline: float) -> None:
        while not done():
            if self._lost:
                raise _Stale(self._lost)
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
        channel.add_on_close_callback(lambda _, reason: self._on_lost(str(reason)))
        channel.add_callback(self._on_returned, [spec.Basic.Return], one_shot=False)

        def confirming(_: Any) -> None:
            self._channel = channel

        channel.confirm_delivery(self._on_confirm, callback=confirming)

    def _on_lost(self, cause: str, fault: Fault = Fault.UNREACHABLE) -> None:
        self._lost = self._lost or cause
        self._channel = None

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        self._unconfirmed -= {t for t in self._unconfirmed if t <= tag} if multiple else {tag}
        if isinstance(frame.method, spec.Basic.Nack):
            self._refused = self._refused or "the broker refused to store it"

    def _on_returned(self, frame: Any) -> None:
        if frame.method.reply_code == 312:
            self._refused = "there is no such queue"
        else:
            self._refused = f"{frame.method.reply_code} {frame.method.reply_text}"

    # ── queues to wait in ────────────────────────────────────────────────────

    def _waiting(self, queue: str, delay: float, deadline: float) -> str:
        """The queue from which a message comes to `queue` after `delay`; made where missing."""
        seconds = step(delay)
        name = f"{queue}.retry.{seconds}"
        if (queue, seconds) not in self._waiting_queues:
            # The broker drops what leaves a waiting queue for one that does not exist.
            if not self._declare(queue, None, deadline):
                raise PublishError(f"{self._settings}: {queue}: there is no such queue")
            arguments = {
                "x-message-ttl": seconds * 1000,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": queue,
            }
            if not self._declare(name, None, deadline):
                self._declare(name, arguments, deadline)
            self._waiting_queues.add((queue, seconds))
        return name

    def _declare(self, name: str, arguments: dict[str, Any] | None, deadline: float) -> bool:
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

        self._link.channel(on_open_callback=ask)
        self._wait(lambda: bool(answer), deadline)
        if answer[0] not in (0, 404):
            raise PublishError(f"{self._settings}: {name}: cannot be declared ({answer[0]})")
        return answer[0] == 0


def _code(why: Exception) -> int:
    return int(getattr(why, "reply_code", 0))


def _properties(entry: Entry, id: str) -> pika.BasicProperties:
    """Raises `TypeError` or `ValueError` for what AMQP cannot carry."""
    entry.check()
    properties = pika.BasicProperties(
        delivery_mode=2,
        message_id=id,
        priority=entry.priority,
        headers=json.loads(entry.headers_as_json() or b"{}"),
    )
    try:
        properties.encode()
    except (struct.error, exceptions.UnsupportedAMQPFieldException) as error:
        raise TypeError(f"headers: {error}") from error
    except exceptions.ShortStringTooLong as error:
        raise ValueError("message_id must be at most 255 bytes") from error
    return properties


_publishers: WeakSet[AMQPPublisher] = WeakSet()


def _after_fork() -> None:
    for publisher in _publishers:
        publisher.reset()


os.register_at_fork(after_in_child=_after_fork)
