"""Declaring what routes ask for, before they consume; what exists is never changed.

So are the queues in which retries wait, at least the first: a user who may not make them is
told at the start, and not with the first message that fails.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pika import exceptions
from pika.channel import Channel

from actors.clients.amqp import Link
from actors.clients.ladder import waiting_queue, ways
from actors.clients.making import FORBIDDEN, MISSING, Making, needed_for_retries, too_long
from actors.errors import Fault

logger = logging.getLogger("actors.connection")


class Topology:
    """The declarations of a connection, by queue; each is carried out once on every link."""

    def __init__(
        self, declarations: Iterable[tuple[str, str]], retries: Mapping[str, float]
    ) -> None:
        """`declarations` as `UnitPlan.topology` has them; `retries`: after how many seconds a
        message of a queue first comes back."""
        self._declarations = {queue: json.loads(text) for queue, text in declarations}
        self._retries = retries
        self._done: set[tuple[Link, str]] = set()

    def prepare(
        self, link: Link, queue: str, done: Callable[[], None], failed: Callable[[str, Fault], None]
    ) -> None:
        """Declare what belongs to a queue, then call `done`; or `failed` with the cause."""
        if (link, queue) in self._done:
            done()
            return

        def finished() -> None:
            self._done = {(other, name) for other, name in self._done if other is link}
            self._done.add((link, queue))
            done()

        def declared() -> None:
            if queue in self._retries:
                _make_waiting_queue(link, queue, self._retries[queue], finished, failed)
            else:
                finished()

        if queue in self._declarations:
            _Declaring(link, self._declarations[queue], declared, failed).begin()
        else:
            declared()


def _make_waiting_queue(
    link: Link,
    queue: str,
    delay: float,
    finished: Callable[[], None],
    failed: Callable[[str, Fault], None],
) -> None:
    def made(code: int, cause: str) -> None:
        if code == FORBIDDEN:
            needed = f"{needed_for_retries(queue)}; or give the route an action, and no Retry"
            failed(f"{cause}: {needed}", Fault.REFUSED)
        elif code:
            failed(cause, Fault.UNREACHABLE)
        else:
            finished()

    name = waiting_queue(queue, delay)
    if cause := too_long(name):
        failed(cause, Fault.REFUSED)
        return
    Making(link, name, ways(queue, delay, link.broker), made).begin()


class _Declaring:
    """Goes through declarations, one after the other."""

    def __init__(
        self,
        link: Link,
        declarations: Iterable[tuple[str, dict[str, Any]]],
        finished: Callable[[], None],
        failed: Callable[[str, Fault], None],
    ) -> None:
        self._link = link
        self._left = deque(declarations)
        self._finished = finished
        self._failed = failed
        self._passive = False  # only ask whether it is there

    def begin(self) -> None:
        self._link.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_closed)
        self._next(channel)

    def _next(self, channel: Channel) -> None:
        if not self._left:
            channel.close()
            self._finished()
            return
        method, arguments = self._left[0]
        if self._passive:
            (name, value), *_ = arguments.items()
            arguments = {name: value, "passive": True}
        getattr(channel, method)(**arguments, callback=lambda _: self._on_declared(channel))

    def _on_declared(self, channel: Channel) -> None:
        if self._passive:
            logger.warning(
                "%s is there, but whether it is as declared cannot be told: no permission",
                self._what,
            )
        self._passive = False
        self._left.popleft()
        self._next(channel)

    def _on_closed(self, _: Channel, reason: Any) -> None:
        if not isinstance(reason, exceptions.ChannelClosedByBroker):
            return  # by us, all done; or with the whole link, which tells it itself
        code = reason.reply_code
        if code == FORBIDDEN and not self._passive and self._left[0][0] != "queue_bind":
            self._passive = True
            self.begin()
            return
        fault = Fault.MISSING if code == MISSING else Fault.REFUSED
        self._failed(f"{self._what} cannot be declared: {code} {reason.reply_text}", fault)

    @property
    def _what(self) -> str:
        method, arguments = self._left[0]
        if method == "queue_bind":
            return f"binding of {arguments['queue']!r} to {arguments['exchange']!r}"
        (what, name), *_ = arguments.items()
        return f"{what} {name!r}"
