"""Names: what a broker would change or cannot carry is refused where it enters, in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors import (
    AMQPConnection,
    App,
    Binding,
    CallboardError,
    ConfigurationError,
    Exchange,
    Publisher,
    Queue,
)
from actors.api.outlet import ConnectionOutlet
from actors.logic.messages.entry import broken_rule, broken_text

#: By rule: RabbitMQ answers under another name, pika cannot encode it, AMQP has no room for it.
BROKEN = [
    ("a\nb", "one line"),
    ("a\rb", "one line"),
    ("\n", "one line"),
    ("a\r\n", "one line"),
    ("\ud800", "whole characters"),
    ("caf\udce9", "whole characters"),
    ("é" * 128, "1 to 255 bytes"),
    ("a" * 256, "1 to 255 bytes"),
    ("", "1 to 255 bytes"),
]
CARRIED = ["a", "é" * 127, "a b", " a ", "a\tb", "a\0b", "\x1b", "a\u2028b", "\x85", "\U0010ffff"]


def refuse(way: str, data: Any = 1, **options: Any) -> None:
    """Put into a connection that nobody may open."""

    def open_publisher(*_: str) -> Any:
        raise AssertionError("opened")

    asyncio.run(ConnectionOutlet("amqp", "{}", open_publisher).put(way, data, **options))


WAYS: dict[str, Callable[[str], Any]] = {
    "a route": lambda name: App().route([name]),
    "a queue": lambda name: Queue(name),
    "an exchange": lambda name: Exchange(name),
    "a binding": lambda name: Binding(name),
    "Publisher.put": lambda name: Publisher("spool:///nowhere/a.db").put(name, 1),
    "Publisher.put on RabbitMQ": lambda name: Publisher("amqp://127.0.0.1:1/").put(name, 1),
    "Publisher.put_many": lambda name: Publisher("amqp://127.0.0.1:1/").put_many(name, [b"1"]),
    "put": refuse,
}
#: Where an empty name has a meaning of its own.
NAMED_OR_NOT: dict[str, Callable[[str], Any]] = {
    "dead letters": lambda name: Queue("q", dead_letter_exchange=name),
    "put into an exchange": lambda name: refuse("key", exchange=name),
}
TEXTS: dict[str, Callable[[str], Any]] = {
    "a binding's key": lambda text: Binding("e", text),
    "dead letters' key": lambda text: Queue("q", dead_letter_routing_key=text),
    "the vhost of a route": lambda text: App().route(["q"], vhost=text),
    "the vhost of a connection": lambda text: AMQPConnection(host="h", vhost=text),
    "the key of a put": lambda text: refuse(text, exchange="e"),
    "the vhost of a put": lambda text: refuse("q", vhost=text),
}


@pytest.mark.parametrize(("name", "rule"), BROKEN)
@pytest.mark.parametrize("way", [*WAYS, *NAMED_OR_NOT])
def test_a_name_that_no_broker_keeps_is_refused_where_it_enters(
    way: str, name: str, rule: str
) -> None:
    if way in NAMED_OR_NOT and not name:
        return
    with pytest.raises((CallboardError, ValueError)) as raised:
        (WAYS | NAMED_OR_NOT)[way](name)
    told = str(raised.value)
    assert rule in told
    assert repr(name) in told
    assert told.isprintable()


@pytest.mark.parametrize(("text", "rule"), BROKEN)
@pytest.mark.parametrize("way", TEXTS)
def test_a_text_that_no_frame_carries_is_refused_where_it_enters(
    way: str, text: str, rule: str
) -> None:
    if rule == "one line" or not text:  # a broker keeps these
        assert not broken_text(text)
        return
    with pytest.raises((CallboardError, ValueError), match=rule.removeprefix("1 to ")) as raised:
        TEXTS[way](text)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", CARRIED)
def test_what_a_broker_keeps_is_a_name(name: str) -> None:
    assert not broken_rule(name)
    assert Queue(name).name == name


def test_a_stream_is_refused_by_name_where_it_is_declared() -> None:
    """`run` and `check` load the app, and so both say it."""
    with pytest.raises(ConfigurationError, match=r"^queue events: is a stream, .*: bind one"):
        Queue("events", arguments={"x-queue-type": "stream"})
