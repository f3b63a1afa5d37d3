"""Publishing to RabbitMQ from any thread, each message proven stored before a call returns."""

from __future__ import annotations

import copy
import dataclasses
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
from actors.connectors.rabbitmq.publishing.session import Session, Stale
from actors.connectors.rabbitmq.queues.declare import FORBIDDEN, MISSING, needed_for_retries
from actors.connectors.rabbitmq.queues.retry_queues import waiting_queue, ways
from actors.errors import Fault, PublishError
from actors.logic.messages.entry import OutgoingMessage

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
        self._retry_queues: set[str] = set()
        self.reset()
        _publishers.add(self)

    def send(
        self, messages: Sequence[OutgoingMessage], timeout: float, *, is_patient: bool = True
    ) -> None:
        """Publishes messages and returns once the outcome of each is known.

        Where the broker is away it waits for it; with `is_patient=False` it only makes a
        connection anew that was good before. Messages are sent again under the same ids.
        Raises `PublishError` where the outcome remains open for some: the others have theirs.
        """
        deadline = time.monotonic() + timeout
        tries = 0
        with self._alone(timeout):
            while left := [message for message in messages if message.outcome is None]:
                was_connected = self._session is not None
                try:
                    self._send(left, deadline)
                except Stale as lost:
                    pause = PAUSES[min(tries, len(PAUSES) - 1)]
                    if lost.fault is not Fault.UNREACHABLE or time.monotonic() + pause >= deadline:
                        raise
                    if not is_patient and (tries or not was_connected):
                        raise
                    time.sleep(pause)
                    tries += 1

    def properties(self, given: Mapping[str, Any]) -> tuple[pika.BasicProperties, str]:
        """Properties by the names that AMQP has for them, persistent; and the message's id.

        Raises `TypeError` or `ValueError` for what AMQP does not know or cannot carry.
        """
        id = given.get("message_id") or os.urandom(16).hex()
        made = encodable(**{"delivery_mode": PERSISTENT, **given, "message_id": id})
        return made, id

    def another(self, properties: pika.BasicProperties) -> tuple[pika.BasicProperties, str]:
        again = copy.copy(properties)
        again.message_id = id = os.urandom(16).hex()
        return again, id

    def __str__(self) -> str:
        return str(self._settings)

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

    def _send(self, messages: Sequence[OutgoingMessage], deadline: float) -> None:
        for message in messages:
            if message.delay:
                self._delay(message, deadline)
        left = [message for message in messages if message.outcome is None]
        with self._connected() as session:
            session.send(left, deadline)

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
        self._retry_queues.clear()
        if session is not None:
            session.close()

    def _delay(self, message: OutgoingMessage, deadline: float) -> None:
        """Names the queue from which a delayed message comes to its own in time, as a retry does.
        Where there can be none, the message is refused, and no neighbour with it."""
        queue, delay = message.routing_key, message.delay
        message.wait_in = name = waiting_queue(queue, delay)
        if name not in self._retry_queues:
            with self._connected() as session:
                # The broker drops what leaves a retry queue for one that does not exist.
                if session.declare(queue, [], deadline)[0] == MISSING:
                    message.outcome = "there is no such queue"
                    return
                code, cause = session.declare(name, ways(queue, delay, session.broker), deadline)
                if code == FORBIDDEN:
                    cause += f": {needed_for_retries(queue)}"
                if code:
                    message.outcome = cause
                    return
            self._retry_queues.add(name)


#: What pika raises for values of types that AMQP does not have.
_UNFIT = (struct.error, AssertionError, AttributeError)


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
