"""Declaration the queues that copies go to, where they do not exist."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pika.channel import Channel

from actors.connectors.rabbitmq.amqp import Link
from actors.log import own_logger
from actors.logic.messages.entry import MAX_NAME

FORBIDDEN, MISSING, UNLIKE = 403, 404, 406

logger = own_logger("actors.connection")

#: What came of it: a reply code, 0 where the queue is there, and the cause for people.
Declared = Callable[[int, str], None]


class Declaration:
    """Asks for a queue; where there is none, declares it in the first way that the broker takes."""

    def __init__(
        self, link: Link, name: str, ways: Iterable[dict[str, Any]], made: Declared
    ) -> None:
        """`made` is not called where the link is lost before."""
        self._link = link
        self._name = name
        self._ways: deque[dict[str, Any] | None] = deque([None, *ways])
        self._made = made

    def begin(self) -> None:
        # A channel for each question: a queue that does not exist closes the one that asks.
        self._link.briefly(self._ask)

    def _ask(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._answered)
        channel.queue_declare(
            self._name,
            passive=self._ways[0] is None,
            durable=True,
            arguments=self._ways[0],
            callback=lambda _: channel.close(),
        )

    def _answered(self, _: Channel, reason: Any) -> None:
        if self._link.is_closed:
            return
        code, way = code_of(reason), self._ways.popleft()
        refused = code != MISSING if way is None else code in (0, FORBIDDEN)
        if self._ways and not refused:
            self.begin()
            return
        if code == 0 and way and "x-queue-type" not in way and "x-dead-letter-routing-key" in way:
            queue = way["x-dead-letter-routing-key"]
            logger.warning(
                "%s: retries of %s wait in a classic queue: one that expires while %s is not"
                " available, or the broker crashes, can be lost",
                *(self._link.place, queue, queue),
            )
        self._made(code, f"{self._name}: {code} {reason.reply_text}" if code else "")


def code_of(reason: Any) -> int:
    """The broker's reply code for what closed a channel; 0: none."""
    return int(getattr(reason, "reply_code", 0))


def too_long(name: str) -> str:
    """Why there can be no queue of this name; empty where there can."""
    fits = len(name.encode()) <= MAX_NAME
    return "" if fits else f"queue name of more than {MAX_NAME} bytes: {name}"


def needed_for_retries(queue: str) -> str:
    """The permissions without which a waiting queue cannot be made and used."""
    pattern = rf"^{re.escape(queue)}\.retry\.[0-9]+$"
    return f"retries need configure and read on {pattern}, and write on ^amq\\.default$"
