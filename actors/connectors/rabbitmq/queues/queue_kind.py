"""The type of a queue, which no answer of the broker names unless something is refused.

Only a consumer of a stream may give an offset: another queue refuses it, and says its own type.
That wants no more permission than to read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pika.channel import Channel

from actors.connectors.rabbitmq.amqp import Link
from actors.connectors.rabbitmq.queues.retry_queues import is_safe
from actors.logic.consuming.limits import unlimited

#: What a consumer asks for that only a stream gives.
ASKED = {"x-stream-offset": "next"}

_TYPE = re.compile(r"of queue type rabbit_(\w+)_queue")


def refused_as(reason: Any) -> str:
    """The type in a refusal of `ASKED`; empty where it was another."""
    found = _TYPE.search(str(getattr(reason, "reply_text", "")))
    return found[1] if found else ""


class Kind:
    """Asks for the type of a queue: "classic", "quorum", "stream", or "" where it is not told."""

    def __init__(self, link: Link, queue: str, told: Callable[[str], None]) -> None:
        """`told` is not called where the link is lost before."""
        self._link = link
        self._queue = queue
        self._told = told
        self._streams = False

    def begin(self) -> None:
        if is_safe(self._link.broker):
            self._link.briefly(self._ask)
        else:  # it may know no streams, and then would begin to deliver
            self._told("")

    def _ask(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._answered)
        channel.basic_qos(prefetch_count=1)
        begun = partial(self._begun, channel)
        channel.basic_consume(self._queue, _drop, arguments=ASKED, callback=begun)

    def _begun(self, channel: Channel, _: Any) -> None:
        self._streams = True
        channel.close()

    def _answered(self, _: Channel, reason: Any) -> None:
        if not self._link.is_closed:
            self._told("stream" if self._streams else refused_as(reason))


def _drop(*_: Any) -> None:
    """Of a stream, which keeps what it delivers."""


def dead_ways(kind: str, broker: Mapping[str, Any]) -> list[dict[str, Any]]:
    """With what a queue of dead letters is declared: what is to be tried, the best first.

    Replicated where its queue is, and where that is not told; without a limit of deliveries,
    which would delete what is looked at too often.
    """
    if not is_safe(broker):
        return [{}]
    classic, quorum = {"x-queue-type": "classic"}, {"x-queue-type": "quorum"}
    if kind == "classic":
        return [classic]
    return [unlimited(quorum, broker) or quorum, classic]
