"""One queue's epoch on a channel of a broker."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import Any

from pika import frame
from pika.channel import Channel

from actors.logic.consuming.flow import Flow
from actors.logic.consuming.frames import BODY, HEADER, METHOD, DeliveryBuffer
from actors.roles.port import Fetched

_ITEM = array("I").itemsize


@dataclass(slots=True, eq=False)
class Consumer:
    """The fetching of one queue, from one opening of its channel to its end."""

    queue: str
    epoch: int
    window: int
    alone: int  #: the window of a queue whose window cannot be widened
    channel: Channel
    buffer: DeliveryBuffer
    flow: Flow
    more: str = ""  #: the tag of a second consumer, which fetches what a wider window has room for
    widened: int = 0  #: how often there was one
    fixed: int = 0  #: the window, where it cannot be widened
    consuming: bool = False
    stopping: bool = False

    def deliver(self, channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        """One delivery by pika's own path, put back into frames: none comes so while a `Link`
        slices."""
        number = channel.channel_number
        self.buffer.add(METHOD, frame.Method(number, method).marshal())
        self.buffer.add(HEADER, frame.Header(number, len(body), properties).marshal())
        if body:
            self.buffer.add(BODY, frame.Body(number, body).marshal())

    def take(self) -> Fetched | None:
        """What came whole since the last time."""
        fetched = self.buffer.take()
        if fetched is not None:
            self.flow.took(len(fetched.ends) // _ITEM, len(fetched.blob), time.monotonic())
        return fetched
