"""Names that a broker keeps as they are given, of queues, exchanges and vhosts."""

from __future__ import annotations

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
