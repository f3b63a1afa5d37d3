"""The administration of RabbitMQ's queues from outside: look, redrive, purge.

What is only looked at is fetched without an acknowledgement and goes back, in order. Where the
broker would count that as a return, a copy takes its place, confirmed before the letter goes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pika
from pika import exceptions, spec

from actors.connectors.rabbitmq.amqp import Settings, explain
from actors.connectors.rabbitmq.publishing.copies import RawProperties
from actors.connectors.rabbitmq.publishing.publisher import AMQPPublisher
from actors.connectors.rabbitmq.publishing.session import NO_QUEUE
from actors.connectors.rabbitmq.queues.queue_kind import ASKED, refused_as
from actors.connectors.rabbitmq.queues.retry_queues import is_safe
from actors.connectors.spool.admin import ALL, DeadFilter, Stored
from actors.errors import ConfigurationError, Fault, PublishError, UnreachableError
from actors.logic.consuming.limits import release
from actors.logic.messages.entry import OutgoingMessage
from actors.logic.messages.properties import copied, entries, split, unreturned

_OURS = "x-callboard-"
_NOT_FOUND, _FORBIDDEN = 404, 403

#: The first RabbitMQ whose quorum queues do not count what was given back unhandled.
_LOOKS_ARE_FREE = (4, 3)

#: What pika makes of a broker that hangs up on the credentials or the vhost.
_REFUSED = (exceptions.ProbableAuthenticationError, exceptions.ProbableAccessDeniedError)

#: Seconds until a copy must be confirmed.
CONFIRM_TIMEOUT_S = 30.0

#: Seconds until what was looked at is back in its queue, where nobody else takes it meanwhile.
RETURN_TIMEOUT_S = 1.0

#: What the broker notes of a death, and Callboard: a letter that goes back begins anew.
_NOTES = (
    *(_OURS.encode(), b"x-death", b"x-first-death-", b"x-last-death-"),
    *(b"x-delivery-count", b"x-acquired-count"),
)

#: A `BlockingChannel`; the stubs of pika know too little of it.
Channel = Any


class _Properties(spec.BasicProperties):
    """Keeps its bytes: a header that pika cannot read must neither hide the others nor change."""

    raw = b""

    def decode(self, encoded: bytes, offset: int = 0) -> _Properties:
        self.raw = encoded[offset:]
        try:
            super().decode(encoded, offset)
        except Exception:  # dates past the year 9999, arrays nested 2,000 deep, and their like
            self.headers = None
        return self

    def encode(self) -> list[bytes]:
        return [self.raw] if self.raw else list(super().encode())


# pika makes what it receives of the class that it finds here.
_classes: Any = spec.props
_classes[spec.BasicProperties.INDEX] = _Properties


class BrokerAdmin:
    """Looks into queues and sets them right. Dead letters are what lies in `<queue>.dead`,
    whoever put it there: Callboard, or the broker itself.

    Every method may raise `ConfigurationError`, `UnreachableError` and `PublishError`.
    """

    def __init__(self, settings: str) -> None:
        """`settings` as `PipelinePlan.settings` has them."""
        self._settings = Settings.parse(settings)
        self._publisher = AMQPPublisher(settings)

    def dead(self, queue: str, which: DeadFilter = ALL) -> list[Stored]:
        """Dead letters, the oldest first."""
        return self._visit(queue, which)

    def redrive(
        self, queue: str, which: DeadFilter = ALL, *, to: str = "", dry_run: bool = False
    ) -> list[str]:
        """Put copies into `to` or the queue itself, attempts from 0; returns ids.

        Each copy is confirmed before its dead letter is acknowledged.
        """

        def send(properties: _Properties, letter: Stored) -> None:
            self._send(to or queue, properties, letter)

        return [letter.id for letter in self._visit(queue, which, None if dry_run else send)]

    def purge_dead(
        self, queue: str, which: DeadFilter = ALL, *, dry_run: bool = False
    ) -> list[str]:
        """Delete dead letters for good; returns their ids."""

        def drop(*_: Any) -> None:
            """Being acknowledged is enough."""

        return [letter.id for letter in self._visit(queue, which, None if dry_run else drop)]

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
            if fault is Fault.UNREACHABLE and not isinstance(error, _REFUSED):
                raise UnreachableError(cause) from error
            raise ConfigurationError(cause) from error
        try:
            yield connection.channel()
        except (exceptions.AMQPError, OSError) as error:
            cause = explain(error, self._settings)[0]
            if getattr(error, "reply_code", 0) == _FORBIDDEN:
                raise ConfigurationError(cause) from error
            raise UnreachableError(cause) from error
        finally:
            self._publisher.close()
            if connection.is_open:
                connection.close()

    def _visit(
        self,
        queue: str,
        which: DeadFilter,
        take: Callable[[_Properties, Stored], None] | None = None,
    ) -> list[Stored]:
        """Those that lie there now and are wanted; with `take`, each goes once it has returned.

        The others stay, in their order.
        """
        name = f"{queue}.dead"
        found: list[Stored] = []
        given_back = 0
        with self._channel() as channel:
            with _given_back(channel):
                # What is put there meanwhile is not looked at: a redrive that fails at once would
                # go round for ever.
                count = self._count(channel, queue)
                quorum = bool(count) and self._kind(channel, name) == "quorum"
                # There is a limit where none can be seen: that of a policy.
                renews = quorum and release(_about(channel)) < _LOOKS_ARE_FREE
                for _ in range(count):
                    enough = which.limit is not None and len(found) >= which.limit
                    if enough and not quorum:  # there the rest would stand before what comes back
                        break
                    method, properties, body = channel.basic_get(name)
                    if method is None:
                        break
                    letter = _letter(queue, properties, body)
                    if wanted := not enough and _wanted(letter, which):
                        found.append(letter)
                    if wanted and take is not None:
                        take(properties, letter)
                    elif renews:
                        self._renew(name, properties, letter)
                    else:
                        given_back += 1
                        continue
                    channel.basic_ack(method.delivery_tag)
            if given_back:
                _await_return(channel, name, given_back)
        return found

    def _kind(self, channel: Channel, name: str) -> str:
        """The type of a queue, as `Kind` asks for it; empty where it is not told."""
        if not is_safe(_about(channel)):
            return ""
        asking = channel.connection.channel()
        asking.basic_qos(prefetch_count=1)
        try:
            asking.basic_consume(name, lambda *_: None, arguments=ASKED)
        except exceptions.ChannelClosedByBroker as refusal:
            return refused_as(refusal)
        raise ConfigurationError(
            f"queue {name!r} on {self._settings} is a stream: nothing can be taken out of it"
        )

    def _renew(self, name: str, properties: _Properties, letter: Stored) -> None:
        """Puts a copy behind the others, its count of returns from 0."""
        if self._copy(name, unreturned(properties.raw), letter):
            raise PublishError(
                f"{name} counts each look at a letter as a return, and takes no copy of {letter.id}"
            )

    def _count(self, channel: Channel, queue: str) -> int:
        """Dead letters of a queue: none while the first has not made their queue."""
        name = f"{queue}.dead"
        if (count := _ready(channel, name)) is not None:
            return count
        if _ready(channel.connection.channel(), queue) is not None:
            return 0
        raise ConfigurationError(f"queue {name!r} does not exist on {self._settings}")

    def _send(self, to: str, properties: _Properties, letter: Stored) -> None:
        raw = copied(properties.raw, {}, letter.id.encode())
        if refusal := self._copy(to, raw, letter):
            if refusal == NO_QUEUE:
                refusal = f"queue {to!r} does not exist on {self._settings}"
            raise PublishError(f"{letter.id} stays dead: {refusal}")

    def _copy(self, to: str, properties: bytes, letter: Stored) -> str:
        """Stores a copy, confirmed; returns why the broker does not take it, empty: it did."""
        copy = OutgoingMessage(
            to, letter.body, RawProperties(properties), letter.id, mandatory=True
        )
        self._publisher.send([copy], CONFIRM_TIMEOUT_S)
        refusal = copy.outcome or ""
        if refusal.startswith(str(_FORBIDDEN)):
            raise ConfigurationError(f"{self._settings}: {refusal}")
        return refusal


def _about(channel: Channel) -> dict[str, Any]:
    """The properties of the broker."""
    return channel.connection._impl.server_properties or {}


@contextmanager
def _given_back(channel: Channel) -> Iterator[None]:
    """What is not acknowledged in the end returns, as never handled: 4.3 does not count that."""
    try:
        yield
    finally:
        if channel.is_open:
            channel.basic_nack(0, multiple=True)


def _await_return(channel: Channel, name: str, count: int) -> None:
    """Waits until what was given back is in the queue, in its place: a busy broker takes a moment,
    and another look in that moment would see the rest alone."""
    until = time.monotonic() + RETURN_TIMEOUT_S
    while (ready := _ready(channel, name)) is not None and ready < count:
        if time.monotonic() >= until:
            return
        channel.connection.sleep(0.01)


def _letter(queue: str, properties: _Properties, body: bytes) -> Stored:
    try:
        fields = split(properties.raw)
    except ValueError:
        fields = {}
    notes = _notes(fields.get("headers", bytes(4)))
    headers = dict(properties.headers or {})
    death = _last_death(headers.get("x-death"))
    reason = str(notes.get("reason") or "")
    return Stored(
        id=_text(fields.get("message_id", b"")[1:])
        or hashlib.blake2b(body, digest_size=8).hexdigest(),
        queue=str(notes.get("queue") or death.get("queue") or queue),
        state="dead",
        priority=fields.get("priority", b"\0")[0],
        attempts=_count(notes.get("attempts")) or _count(death.get("count")),
        enqueued=0.0,
        headers={name: value for name, value in headers.items() if not _is_note(name)},
        body=body,
        died=_died(notes.get("time"), death.get("time")),
        reason=reason or (f"by the broker: {death['reason']}" if "reason" in death else ""),
        error=str(notes.get("error") or ""),
        route=str(notes.get("route") or ""),
    )


def _last_death(deaths: Any) -> dict[str, Any]:
    """The broker's latest note of a death; empty where it is none, for anybody may write it."""
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    return latest if isinstance(latest, dict) else {}


def _count(value: Any) -> int:
    return max(0, value) if isinstance(value, int) else 0


def _notes(headers: bytes) -> dict[str, str | int]:
    """Callboard's own headers, by name without its prefix."""
    found: dict[str, str | int] = {}
    try:
        known = entries(headers)
    except ValueError:
        return found
    for name, value in known:
        if name.startswith(_OURS.encode()):
            key = _text(name).removeprefix(_OURS)
            if value[:1] == b"S":
                found[key] = _text(value[5:])
            elif value[:1] in (b"b", b"s", b"I", b"l"):
                found[key] = int.from_bytes(value[1:], "big", signed=True)
    return found


def _is_note(name: str | bytes) -> bool:
    """Also of a name that is no text, which pika leaves as bytes."""
    encoded = name if isinstance(name, bytes) else name.encode("utf-8", "backslashreplace")
    return encoded.startswith(_NOTES)


def _text(encoded: bytes) -> str:
    return encoded.decode("utf-8", "backslashreplace")


def _died(told: str | int | None, by_broker: Any) -> float | None:
    try:
        if isinstance(told, str):
            return datetime.fromisoformat(told).timestamp()
        if isinstance(by_broker, datetime):  # AMQP's timestamps have no zone and mean UTC
            return by_broker.replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError, OSError):  # no time, or one that no clock shows
        pass
    return None


def _wanted(letter: Stored, which: DeadFilter) -> bool:
    if which.ids and letter.id not in which.ids:
        return False
    names = {letter.error, letter.error.rpartition(".")[2]}
    if which.error and names.isdisjoint(which.errors):
        return False
    return which.before is None or (letter.died is not None and letter.died < which.before)


def _ready(channel: Channel, queue: str) -> int | None:
    """Messages that are ready; None where there is no such queue, and then no channel."""
    try:
        return int(channel.queue_declare(queue, passive=True).method.message_count)
    except exceptions.ChannelClosedByBroker as error:
        if error.reply_code != _NOT_FOUND:
            raise
        return None
