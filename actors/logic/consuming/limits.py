"""A broker's limit of deliveries: how it is asked for, and when a message is rescued from it.
The same question tells whether a queue has a single active consumer.

A quorum queue counts how often a message came back, and drops the message once the count passes
its limit: into the dead-letter exchange where the queue has one, and else for good.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from actors.logic.bulks.bulk import Chunk
from actors.logic.consuming.frames import Delivery
from actors.logic.settlement.attempts import returned

#: The limit of a quorum queue that declares none, and the first RabbitMQ that has one.
DEFAULT = 20
_LIMITED_SINCE = (4, 0)

_TYPE, _LIMIT, _DEAD_LETTERS = "x-queue-type", "x-delivery-limit", "x-dead-letter-exchange"
_SINGLE = "x-single-active-consumer"
_FLAGS = ("durable", "auto_delete")

#: How a refused declaration shows an argument of the queue that is there.
_UNLIKE = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for queue .* but current is"
    r" (?:none|(?:the value )?'(?P<value>.*?)'(?: of type '(?P<type>\w+)')?)$",
    re.DOTALL,
)


def release(broker: Mapping[str, Any]) -> tuple[int, ...]:
    """Major and minor version of a RabbitMQ with these properties; empty: it is none."""
    version = str(broker.get("version", "")).split(".")[:2]
    if broker.get("product") != "RabbitMQ" or not all(part.isdecimal() for part in version):
        return ()
    return tuple(map(int, version))


def unlimited(arguments: Mapping[str, Any], broker: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments that keep a new queue from dropping messages; None: they need no addition.

    Before 4.0 a queue without a limit has none, and -1 would drop at the first return.
    """
    quorum = arguments.get(_TYPE) == "quorum"
    if not quorum or _LIMIT in arguments or release(broker) < _LIMITED_SINCE:
        return None
    return {**arguments, _LIMIT: -1}


def rescue_at(limit: int) -> int:
    """The count at which a message that comes again is rescued, before one return too many.

    What is left to the limit are returns that nobody decides on: kills and lost connections.
    """
    return limit - max(limit // 4, int(limit > 2))


def tighter(one: int | None, other: int | None) -> int | None:
    """The limit that counts where there may be two."""
    return min((limit for limit in (one, other) if limit is not None), default=None)


def endangered(chunk: Chunk, limit: int | None) -> dict[int, int]:
    """What the broker would soon drop: how often it came back, by index."""
    if limit is None:
        return {}
    most = max(1, rescue_at(limit))  # a limit of 0 leaves nothing that comes again
    counts = {}
    for index in chunk.attempts:
        if (count := returned(Delivery(chunk.raw(index)))) >= most:
            counts[index] = count
    return counts


class Inquiry:
    """Finds out about a queue by declarations that the broker refuses.

    Each refusal names one thing in which the queue differs from the declaration; the next
    declaration has it too, until all is known or nothing is refused.
    """

    def __init__(self, broker: Mapping[str, Any]) -> None:
        self.flags = {"durable": True}  #: of the next declaration, and so are
        self.arguments: dict[str, Any] = {_TYPE: "quorum"}
        self._default = DEFAULT if release(broker) >= _LIMITED_SINCE else None
        self._corrected: set[str] = set()
        self._accepted = False

    @property
    def limit(self) -> int | None:
        """The limit beyond which messages are lost, by what is known; None: there is none."""
        if not self._quorum or _DEAD_LETTERS in self.arguments:
            return None
        limit = self.arguments.get(_LIMIT, self._default)
        return None if limit is None or limit < 0 else limit

    @property
    def single(self) -> bool:
        """Whether the queue has a single active consumer, or may have one."""
        return bool(self.arguments.get(_SINGLE, not self._accepted))

    @property
    def _quorum(self) -> bool:
        return self.flags == {"durable": True} and self.arguments[_TYPE] == "quorum"

    def accepted(self) -> None:
        """The queue is as the last declaration."""
        self._accepted = True

    def refused(self, text: str) -> bool:
        """Learn from a refusal; returns whether another declaration may tell more."""
        found = _UNLIKE.search(text)
        if found is None or found["name"] in self._corrected:
            return False
        name, value, kind = found["name"], found["value"], found["type"]
        self._corrected.add(name)
        if name in _FLAGS:
            self.flags[name] = value == "true"
            self.arguments[_TYPE] = "classic"  # quorum queues are durable, and stay
        elif name == _TYPE:
            self.arguments[_TYPE] = value or "classic"  # without a type it is a classic queue
        elif not name.startswith("x-"):
            self.arguments[_TYPE] = "classic"  # quorum queues are shared
            return False
        elif value is None:
            return False
        else:
            self.arguments[name] = _typed(value, kind)
        return not (_SINGLE in self.arguments and (_LIMIT in self.arguments or not self._quorum))


def _typed(value: str, kind: str | None) -> Any:
    """An argument as a client sends it, of the type that the broker names."""
    if kind == "bool":
        return value == "true"
    return int(value) if kind != "longstr" and value.lstrip("-").isdecimal() else value
