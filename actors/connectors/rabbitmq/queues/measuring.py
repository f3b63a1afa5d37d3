"""Telling an empty queue from one that does not answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pika import spec
from pika.channel import Channel

from actors.connectors.rabbitmq.amqp import Link
from actors.connectors.rabbitmq.queues.declare import FORBIDDEN, code_of
from actors.logic.consuming.frames import Glance

#: A queue with a single active consumer gives nobody else a message, and says so itself.
LOCKED = 405


class Measuring:
    """Counts what is ready in a queue.

    The broker says 0 also of a quorum queue whose leader does not answer. So 0 counts where the
    queue itself had no message to give.
    """

    def __init__(self, link: Link, queue: str, told: Callable[[int | None], None]) -> None:
        """`told` gets the count, None where it remains open; nothing where the link is lost."""
        self._link = link
        self._queue = queue
        self._told = told
        self._answer: int | None = None
        self._proven = False  # the queue itself has answered

    def begin(self) -> None:
        self._link.briefly(self._count)

    def _count(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_counted)
        channel.queue_declare(self._queue, passive=True, callback=partial(self._counted, channel))

    def _counted(self, channel: Channel, frame: Any) -> None:
        self._answer = frame.method.message_count
        channel.close()

    def _on_counted(self, _: Channel, reason: Any) -> None:
        if self._link.is_closed:
            return
        # Some versions want more permissions of who counts than of who consumes.
        if not self._proven and (self._answer == 0 or code_of(reason) == FORBIDDEN):
            self._answer = None
            self._link.briefly(self._get)
        else:
            self._told(self._answer)

    def _get(self, channel: Channel) -> None:
        found = partial(self._found, channel)
        self._link.slicer.sinks[channel.channel_number] = Glance(found)
        channel.add_on_close_callback(self._on_got)
        channel.add_callback(partial(self._empty, channel), [spec.Basic.GetEmpty])
        channel.basic_get(self._queue, callback=lambda *_: found())

    def _empty(self, channel: Channel, _: Any) -> None:
        self._answer = 0
        channel.close()

    def _found(self, channel: Channel) -> None:
        self._answer = 1
        channel.basic_nack(1)
        channel.close()

    def _on_got(self, channel: Channel, reason: Any) -> None:
        if self._link.is_closed:
            return
        self._link.slicer.sinks.pop(channel.channel_number, None)
        if code_of(reason) == LOCKED:
            self._proven = True
            self.begin()
        else:
            self._told(self._answer)
