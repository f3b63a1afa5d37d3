"""What people do to queues of RabbitMQ from outside: look, redrive, purge.

What is only looked at is fetched without an acknowledgement and goes back, in order, when
the connection closes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pika
from pika import exceptions, spec

from actors.clients.amqp import Settings, explain
from actors.clients.spooladmin import ALL, DeadFilter, Stored
from actors.errors import ConfigurationError, Fault, PublishError, UnreachableError

_OURS = "x-callboard-"
_PERSISTENT = 2
_NOT_FOUND = 404

#: A `BlockingChannel`; the stubs of pika know too little of it.
Channel = Any


class BrokerAdmin:
    """Looks into queues and sets them right. Dead letters are what lies in `<queue>.dead`,
    whoever put it there: Callboard, or the broker itself.

    Every method may raise `ConfigurationError`, `UnreachableError` and `PublishError`.
    """

    def __init__(self, settings: str) -> None:
        """`settings` as `UnitPlan.settings` has them."""
        self._settings = Settings.parse(settings)

    def dead(self, queue: str, which: DeadFilter = ALL) -> list[Stored]:
        """Dead letters, the oldest first."""
        with self._channel() as channel:
            return [letter for _, _, letter in self._letters(channel, queue, which)]

    def redrive(
        self, queue: str, which: DeadFilter = ALL, *, to: str = "", dry_run: bool = False
    ) -> list[str]:
        """Put copies into `to` or the queue itself, attempts from 0; returns ids.

        Each copy is confirmed before its dead letter is acknowledged.
        """
        ids = []
        with self._channel() as channel:
            channel.confirm_delivery()
            for tag, properties, letter in self._letters(channel, queue, which):
                if not dry_run:
                    self._publish(channel, to or queue, properties, letter)
                    channel.basic_ack(tag)
                ids.append(letter.id)
        return ids

    def purge_dead(
        self, queue: str, which: DeadFilter = ALL, *, dry_run: bool = False
    ) -> list[str]:
        """Delete dead letters for good; returns their ids."""
        ids = []
        with self._channel() as channel:
            for tag, _, letter in self._letters(channel, queue, which):
                if not dry_run:
                    channel.basic_ack(tag)
                ids.append(letter.id)
        return ids

    def declare(self, queue: str) -> tuple[int, int]:
        """Make the queue where it is missing; returns how many messages and consumers it has."""
        with self._channel() as channel:
            try:
                found = channel.queue_declare(queue, passive=True)
            except exceptions.ChannelClosedByBroker as error:
                if error.reply_code != _NOT_FOUND:
                    raise
                found = channel.connection.channel().queue_declare(queue, durable=True)
        return found.method.message_count, found.method.consumer_count

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        try:
            connection = pika.BlockingConnection(self._settings.parameters("admin"))
        except (exceptions.AMQPError, OSError) as error:
            cause, fault = explain(error, self._settings)
            raise (UnreachableError if fault is Fault.UNREACHABLE else ConfigurationError)(
                cause
            ) from error
        try:
            yield connection.channel()
        except (exceptions.AMQPError, OSError) as error:
            raise UnreachableError(explain(error, self._settings)[0]) from error
        finally:
            if connection.is_open:
                connection.close()

    def _letters(
        self, channel: Channel, queue: str, which: DeadFilter
    ) -> Iterator[tuple[int, spec.BasicProperties, Stored]]:
        """Tag, properties and letter of those that lie there now and are wanted."""
        name = f"{queue}.dead"
        left = which.limit
        # What is put there meanwhile is not looked at: a redrive that fails at once would
        # go round for ever.
        for _ in range(self._count(channel, name)):
            method, properties, body = channel.basic_get(name)
            if left == 0 or method is None:
                return
            letter = _letter(queue, properties, body)
            if _wanted(letter, which):
                yield method.delivery_tag, properties, letter
                left = left and left - 1

    def _count(self, channel: Channel, name: str) -> int:
        try:
            return int(channel.queue_declare(name, passive=True).method.message_count)
        except exceptions.ChannelClosedByBroker as error:
            if error.reply_code != _NOT_FOUND:
                raise
            raise ConfigurationError(
                f"queue {name!r} does not exist on {self._settings}"
            ) from error

    def _publish(
        self, channel: Channel, to: str, properties: spec.BasicProperties, letter: Stored
    ) -> None:
        properties.headers = letter.headers
        properties.delivery_mode = _PERSISTENT
        properties.expiration = properties.user_id = None
        try:
            channel.basic_publish("", to, letter.body, properties, mandatory=True)
        except exceptions.UnroutableError as error:
            raise PublishError(
                f"{letter.id} stays dead: queue {to!r} does not exist on {self._settings}"
            ) from error
        except exceptions.NackError as error:
            raise PublishError(f"{letter.id} stays dead: the broker refused its copy") from error


def _letter(queue: str, properties: spec.BasicProperties, body: bytes) -> Stored:
    headers = dict(properties.headers or {})
    death = (headers.pop("x-death", None) or [{}])[0]
    ours = {name: headers.pop(name) for name in list(headers) if name.startswith(_OURS)}
    for name in ("x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"):
        headers.pop(name, None)
    reason = str(ours.get(f"{_OURS}reason") or "")
    return Stored(
        id=properties.message_id or hashlib.blake2b(body, digest_size=8).hexdigest(),
        queue=str(ours.get(f"{_OURS}queue") or death.get("queue") or queue),
        state="dead",
        priority=properties.priority or 0,
        attempts=int(ours.get(f"{_OURS}attempts") or death.get("count") or 0),
        enqueued=0.0,
        headers=headers,
        body=body,
        died=_died(ours, death),
        reason=reason or (f"by the broker: {death['reason']}" if "reason" in death else ""),
        error=str(ours.get(f"{_OURS}error") or ""),
        route=str(ours.get(f"{_OURS}route") or ""),
    )


def _died(ours: dict[str, Any], death: dict[str, Any]) -> float | None:
    if text := ours.get(f"{_OURS}time"):
        try:
            return datetime.fromisoformat(text).timestamp()
        except (TypeError, ValueError):
            return None
    moment = death.get("time")
    # AMQP's timestamps have no zone and mean UTC.
    return moment.replace(tzinfo=UTC).timestamp() if isinstance(moment, datetime) else None


def _wanted(letter: Stored, which: DeadFilter) -> bool:
    if which.ids and letter.id not in which.ids:
        return False
    if which.error and which.error not in (letter.error, letter.error.rpartition(".")[2]):
        return False
    return which.before is None or (letter.died is not None and letter.died < which.before)
