"""A message for a queue, before it is published: names, sizes and values that can be stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from actors.logic.messages.records import MAX_PRIORITY

#: Bytes of body and headers together; a broker takes no more either.
MAX_MESSAGE = 512 * 1024 * 1024

#: Bytes of one message between actors: the largest delivery, with room for what goes with it.
MAX_FRAME = MAX_MESSAGE + 64 * 1024 * 1024

#: Bytes of several deliveries that travel together; a larger one travels by itself.
TRANSFER_MAX = 64 * 1024 * 1024


def check_size(size: int) -> None:
    """Raises `ValueError` for more than a message may have."""
    if size > MAX_MESSAGE:
        raise ValueError(
            f"a message has at most {MAX_MESSAGE:,} bytes with its headers, not {size:,}"
        )


MAX_NAME = 255  #: bytes, of an AMQP short string


def broken_rule(name: object) -> str:
    """The rule that the name of a queue or an exchange breaks; empty where it breaks none.

    RabbitMQ takes line breaks out of such a name, and answers under another one.
    """
    if not isinstance(name, str) or not name or len(name.encode("utf-8", "replace")) > MAX_NAME:
        return f"1 to {MAX_NAME} bytes"
    return "one line" if "\n" in name or "\r" in name else broken_text(name)


def broken_text(text: str) -> str:
    """The same for a routing key or a vhost, which the broker only carries."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "whole characters"  # half of a surrogate pair, or bytes that were no UTF-8
    return "" if size <= MAX_NAME else f"at most {MAX_NAME} bytes"


MAX_ID = 255  #: bytes, of an AMQP short string
MAX_DELAY = 10 * 365 * 86400  #: seconds; a wall clock that is off by more is no clock
MAX_TIMEOUT = 86400  #: seconds; more than the clocks of all systems can wait for is an error

#: AMQP's properties that are numbers, with the most that each may be; the others are texts.
NUMBERS = {"delivery_mode": 2, "priority": MAX_PRIORITY, "timestamp": 2**63 - 1}
TEXTS = {
    "content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id",
    "type", "user_id", "app_id", "cluster_id",
}  # fmt: skip


class MessageId(str):
    """The id of a message that was stored, as `put` returns it.

    A class of its own, so that a handler whose last word is `return await connection.put(…)` is
    told from one that returns a text by mistake.
    """

    __slots__ = ()


class Entry(NamedTuple):
    """A message for a queue."""

    body: bytes
    id: str = ""  #: made where it is empty
    headers: Mapping[str, Any] | None = None
    priority: int = 0  #: 0 to 255, higher first
    delay: float = 0.0  #: seconds
    encoded: bytes | None = None  #: the headers as JSON, where that is done already

    def check(self) -> None:
        """Raises `TypeError` or `ValueError` for what no connection can store.

        Types are checked as well as ranges: what a store takes it has to give out again.
        """
        check_body(self.body)
        _check_number("priority", self.priority, MAX_PRIORITY)
        check_seconds("delay", self.delay, MAX_DELAY)
        check_text("message_id", self.id)
        _check_headers(self.headers)

    def headers_as_json(self) -> bytes:
        """Empty where there are none; raises `TypeError` or `ValueError` where JSON has none."""
        headers = self.encoded
        if headers is None:
            headers = _as_json("headers", dict(self.headers)) if self.headers else b""
        check_size(len(self.body) + len(headers))
        return headers


def check_body(body: bytes, headers: int = 0) -> None:
    """Raises `TypeError` or `ValueError` for what cannot be the body of a message that has so
    many bytes of headers."""
    if not isinstance(body, bytes):
        raise TypeError(f"a serialized message must be bytes, not {_kind(body)}")
    check_size(len(body) + headers)


def check_queue(queue: str, argument: str = "queue") -> None:
    """Raises `TypeError` or `ValueError` for what cannot be the name of a queue."""
    if not isinstance(queue, str):
        raise TypeError(f"{argument} must be the name of a queue, not {_kind(queue)}")
    if rule := broken_rule(queue):
        raise ValueError(f"{argument} must be the name of a queue, of {rule}: {queue!r}")


def check_way(exchange: str, routing_key: str) -> None:
    """The same for the way of a message: without an exchange the key is the name of a queue."""
    if not isinstance(exchange, str):
        raise TypeError(f"exchange must be the name of an exchange, not {_kind(exchange)}")
    if not exchange:
        check_queue(routing_key, "routing_key")
        return
    if rule := broken_rule(exchange):
        raise ValueError(f"exchange must be the name of an exchange, of {rule}: {exchange!r}")
    check_text("routing_key", routing_key)


def check_text(argument: str, value: str) -> None:
    """Raises `TypeError` or `ValueError` for what is no short string of AMQP."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be text, not {_kind(value)}")
    if rule := broken_text(value):
        raise ValueError(f"{argument} must be {rule}")


def check_seconds(argument: str, value: float, most: int = MAX_TIMEOUT) -> None:
    """Raises `TypeError` or `ValueError` for what is no time to wait."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{argument} must be a number of seconds, not {_kind(value)}")
    if not 0 <= value <= most:  # false for NaN as well
        raise ValueError(f"{argument} must be 0 to {most:,} seconds, not {value}")


def check_properties(given: Mapping[str, Any]) -> None:
    """Raises `TypeError` or `ValueError` for what AMQP has no property or no value for."""
    if not isinstance(given, Mapping):
        raise TypeError(f"properties must be a mapping, not {_kind(given)}")
    for name, value in given.items():
        if value is None:
            continue
        if name == "headers":
            _check_headers(value)
        elif name in NUMBERS:
            _check_number(name, value, NUMBERS[name])
        elif name in TEXTS:
            check_text(name, value)
        else:
            known = ", ".join(sorted({"headers", *NUMBERS, *TEXTS}))
            raise TypeError(f"properties: AMQP has none named {name!r}; it has {known}")


def _check_number(argument: str, value: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{argument} must be a whole number, not {_kind(value)}")
    if not 0 <= value <= most:
        raise ValueError(f"{argument} must be 0 to {most}, not {value}")


def _check_headers(headers: Mapping[str, Any] | None) -> None:
    if not isinstance(headers, Mapping | None):
        raise TypeError(f"headers must be a mapping, not {_kind(headers)}")
    for name in headers or ():
        if not isinstance(name, str):
            raise TypeError(f"headers must have names of text, not {_kind(name)}")


def _kind(value: object) -> str:
    return type(value).__name__


def entry_of(properties: Mapping[str, Any], body: bytes = b"") -> Entry:
    """The message that has these of AMQP's properties; a spool has no place for others."""
    id, priority = properties.get("message_id"), properties.get("priority")
    return Entry(
        body,
        "" if id is None else id,
        properties.get("headers"),
        0 if priority is None else priority,
    )


@dataclass(slots=True, eq=False)
class OutgoingMessage:
    """A message on its way to a broker or a spool, and what became of it."""

    routing_key: str
    body: bytes
    properties: Any  #: as its store wants them
    id: str = ""
    exchange: str = ""  #: empty: `routing_key` is the name of a queue
    mandatory: bool = False  #: where no queue takes it, it counts as refused
    delay: float = 0.0  #: seconds
    wait_in: str = ""  #: the queue in which a delayed message waits
    outcome: str | None = None  #: None: not known; empty: stored; otherwise why it is not

    @property
    def target(self) -> str:
        """The routing key under which it is published."""
        return self.wait_in or self.routing_key


class Store(Protocol):
    """The place that messages go to: a connector's publisher, a broker or a spool."""

    def properties(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """AMQP's properties as this store wants them, and the message's id.

        Raises `TypeError` or `ValueError` for what it has no place for.
        """

    def another(self, properties: Any) -> tuple[Any, str]:
        """The properties of one more message that differs in its id alone, and that id."""

    def send(
        self, messages: Sequence[OutgoingMessage], timeout: float, *, is_patient: bool = True
    ) -> None:
        """Sets the outcome of each message; waits for a store that is away, if it is patient.

        Raises `PublishError` where the outcome of some remains open.
        """

    def close(self) -> None: ...


def outgoing(
    store: Store | Any,
    routing_key: str,
    body: bytes,
    properties: Mapping[str, Any] | None = None,
    *,
    exchange: str = "",
    mandatory: bool = False,
    headers: Mapping[str, Any] | None = None,
    message_id: str | None = None,
    priority: int | None = None,
    delay: float = 0.0,
) -> OutgoingMessage:
    """A message as a store takes it; whatever is named stands before `properties`.

    Raises `TypeError` or `ValueError` for what cannot be a message.
    """
    check_way(exchange, routing_key)
    if not isinstance(mandatory, bool):
        raise TypeError(f"mandatory must be True or False, not {_kind(mandatory)}")
    check_seconds("delay", delay, MAX_DELAY)
    if delay and exchange:
        raise ValueError("delay needs a queue to come to; a message for an exchange has none")
    given = {} if properties is None else properties
    check_properties(given)
    named = {"headers": headers, "message_id": message_id, "priority": priority}
    check_properties(named)
    given = {**given, **{name: value for name, value in named.items() if value is not None}}
    packed, id = store.properties(given)
    return OutgoingMessage(routing_key, body, packed, id, exchange, mandatory, delay)


def serialized(data: Any, given: bytes | None) -> bytes:
    """The body of a message: `data` as JSON, or what was `given` as it is.

    Raises `ValueError` for both or neither, `TypeError` for what JSON cannot say.
    """
    if given is None:
        if data is None:
            raise ValueError("put needs data or serialized_data; for JSON's null, say b'null'")
        return _as_json("data", data)
    if data is not None:
        raise ValueError("put takes data or serialized_data, not both")
    if not isinstance(given, bytes):
        raise TypeError(f"serialized_data must be bytes, not {_kind(given)}")
    return given


def _as_json(argument: str, value: Any) -> bytes:
    try:
        text = json.dumps(value, allow_nan=False)
        if "\\ud" in text:  # half a character, perhaps: nobody could decode it
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"{argument} must not be nested as deep as this") from None
    return text.encode()
