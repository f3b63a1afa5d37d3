"""Fewer, larger reads of a busy socket: each wakes three processes."""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from actors.connectors.rabbitmq.amqp import Link
from actors.connectors.rabbitmq.ioloop import IOLoop, Timer
from actors.logic.consuming.flow import Flow


class Gathering:
    """Has a socket become readable only once it holds what is worth it, or time is up."""

    def __init__(self, loop: IOLoop) -> None:
        self._loop = loop
        self._timer: Timer | None = None
        self._sock: Any = None

    def begin(self, link: Link, flows: Collection[Flow]) -> None:
        """From now on, where one of the flows has plenty to do, or comes quickly."""
        link.expect(max((flow.most for flow in flows), default=1))
        least, patience = max((flow.worth() for flow in flows), default=(1, 0.0))
        sock = link.socket
        if least > 1 and sock is not None:
            with suppress(OSError):  # not on every system; then each read is as it comes
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
                self._sock = sock
                self._timer = self._loop.call_later(patience, _wake)

    def end(self) -> None:
        """All that there is may be read."""
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
            with suppress(OSError):  # closed since
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            self._timer = self._sock = None


def _wake() -> None:
    """Being due is enough: the owner turns the loop."""
