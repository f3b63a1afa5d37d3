"""Publishing to RabbitMQ from any thread, each message proven stored before a call returns."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakSet

import pika
from pika import exceptions

from actors.connectors.rabbitmq.amqp import Settings
from actors.connectors.rabbitmq.retry_queues import arguments, is_safe, waiting_queue
from actors.connectors.rabbitmq.session import Session, Stale
from actors.errors import Fault, PublishError
from actors.logic.entry import Entry, Outgoing

#: Seconds. Nobody sends heartbeats between two puts, so that a connection that was not used
#: for half of theirs is made anew.
HEARTBEAT = 30
IDLE = 15.0

#: Seconds between two tries to connect, the first after none.
PAUSES = (0.0, 0.1, 0.2, 0.5, 1.0)

PERSISTENT = 2


class AMQPPublisher:
    """One connection to a broker, made with the first message, and again where it was lost.

    Safe for threads; a forked child makes a connection of its own.
    """

    def __init__(self, settings: str) -> None:
        """`settings` as `PipelinePlan.settings` has them."""
        self._settings = dataclasses.replace(Settings.parse(settings), heartbeat=HEARTBEAT)
        self._session: Session | None = None
        self._used = 0.0
        self._waiting_queues: set[str] = set()
        self.reset()
        _publishers.add(self)

    def put(self, queue: str, entries: Sequence[Entry], timeout: float = 5.0) -> list[str]:
        """Store all, in order, and return their ids; on a `PublishError` some may be stored.

        A queue that does not exist is not made. A connection lost under way is made anew
        once, and the messages are sent again under the same ids.
        """
        ids = [entry.id or os.urandom(16).hex() for entry in entries]
        messages = [
            Outgoing(queue, entry.body, _of_entry(entry, id), mandatory=True)
            for entry, id in zip(entries, ids, strict=True)
        ]
        deadline = time.monotonic() + timeout
        with self._alone(timeout):
            used_before = self._session is not None
            try:
                self._route(queue, entries, messages, deadline)
                self._send(messages, deadline)
            except Stale:
                if not used_before:
                    raise
                self._route(queue, entries, messages, deadline)
                self._send(messages, deadline)
        if refused := next((message.outcome for message in messages if message.outcome), ""):
            raise PublishError(f"{self._settings}: {queue}: {refused}")
        return ids

    def send(self, messages: Sequence[Outgoing], timeout: float) -> None:
        """Find out what becomes of each message, waiting for a broker that is away.

        Raises `PublishError` where that remains open for some: the others have an outcome.
        """
        deadline = time.monotonic() + timeout
        tries = 0
        with self._alone(timeout):
            while left := [message for message in messages if message.outcome is None]:
                try:
                    self._send(left, deadline)
                except Stale as lost:
                    pause = PAUSES[min(tries, len(PAUSES) - 1)]
                    if lost.fault is not Fault.UNREACHABLE or time.monotonic() + pause >= deadline:
                        raise
                    time.sleep(pause)
                    tries += 1

    def properties(self, given: Mapping[str, Any]) -> pika.BasicProperties:
        """Properties by the names that AMQP has for them; persistent, with an id.

        Raises `TypeError` or `ValueError` for what AMQP does not know or cannot carry.
        """
        return encodable(**{
            "delivery_mode": PERSISTENT, "message_id": os.urandom(16).hex(), **given
        })  # fmt: skip

    def close(self) -> None:
        with self._lock:
            self._end()

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

    def _send(self, messages: Sequence[Outgoing], deadline: float) -> None:
        with self._connected() as session:
            session.send(messages, deadline)

    @contextmanager
    def _connected(self) -> Iterator[Session]:
        if time.monotonic() - self._used > IDLE:
            self._end()
        self._session = self._session or Session(self._settings)
        try:
            yield self._session
        except BaseException:
            self._end()
            raise
        self._used = time.monotonic()

    def _end(self) -> None:
        session, self._session = self._session, None
        self._waiting_queues.clear()
        if session is not None:
            session.close()

    # ── queues to wait in ────────────────────────────────────────────────────

    def _route(
        self, queue: str, entries: Sequence[Entry], messages: list[Outgoing], deadline: float
    ) -> None:
        """What is delayed goes by the queue from which it comes to `queue` in time."""
        for entry, message in zip(entries, messages, strict=True):
            if entry.delay:
                message.routing_key = self._waiting(queue, entry.delay, deadline)

    def _waiting(self, queue: str, delay: float, deadline: float) -> str:
        name = waiting_queue(queue, delay)
        if name not in self._waiting_queues:
            with self._connected() as session:
                # The broker drops what leaves a waiting queue for one that does not exist.
                if not session.declare(queue, None, deadline):
                    raise PublishError(f"{self._settings}: {queue}: there is no such queue")
                if not session.declare(name, None, deadline):
                    safe = is_safe(session.broker)
                    session.declare(name, arguments(queue, delay, safe), deadline)
            self._waiting_queues.add(name)
        return name


#: What pika raises for values of types that AMQP does not have.
_UNFIT = (struct.error, AssertionError, AttributeError)


def _of_entry(entry: Entry, id: str) -> pika.BasicProperties:
    entry.check()
    return encodable(
        delivery_mode=PERSISTENT,
        message_id=id,
        priority=entry.priority,
        headers=json.loads(entry.headers_as_json() or b"{}"),
    )


def encodable(**given: Any) -> pika.BasicProperties:
    """Raises `TypeError` or `ValueError` for what AMQP cannot carry."""
    properties = pika.BasicProperties(**given)
    try:
        properties.encode()
    except exceptions.ShortStringTooLong as error:
        raise ValueError("a property, message_id for one, must be at most 255 bytes") from error
    except exceptions.UnsupportedAMQPFieldException as error:
        kind = type(error.args[-1]).__name__
        raise TypeError(f"headers: pika cannot send a value of type {kind}") from None
    except _UNFIT as error:
        raise TypeError(f"headers or properties: {error}") from error
    except RecursionError:
        raise ValueError("headers must not be nested as deep as these") from None
    return properties


_publishers: WeakSet[AMQPPublisher] = WeakSet()


def _after_fork() -> None:
    for publisher in _publishers:
        publisher.reset()


os.register_at_fork(after_in_child=_after_fork)
