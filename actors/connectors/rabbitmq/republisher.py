"""Copies of deliveries to other queues, each proven stored before it is reported.

They travel on a connection of their own: a broker that is low on memory stops reading
from a connection that publishes, and acknowledgements behind a copy would wait with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pika import spec
from pika.channel import Channel

from actors.connectors.rabbitmq import copies
from actors.connectors.rabbitmq.amqp import Link, Settings
from actors.connectors.rabbitmq.copies import RawProperties, target
from actors.connectors.rabbitmq.declare import (
    FORBIDDEN,
    MISSING,
    Making,
    code_of,
    needed_for_retries,
    too_long,
)
from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.connectors.rabbitmq.queue_kind import Kind, dead_ways
from actors.connectors.rabbitmq.retry_queues import ways
from actors.connectors.spool.dead_letters import bury_delivery
from actors.connectors.spool.file import SpoolFile
from actors.errors import CallboardError, Fault
from actors.log import own_logger
from actors.logic.copying import Form, Refusal
from actors.logic.frames import Delivery, Mute
from actors.roles.port import Move, Moved, MoveFailed

#: Bytes of a frame that its properties cannot have: type, channel, sizes, class, end.
FRAME = 32

#: Seconds from the call until a copy must be confirmed.
PATIENCE = 10.0

logger = own_logger("actors.connection")


#: Codes with which a broker closes a connection over what it was sent, or fails over it.
_BLAMES = range(501, 542)


@dataclass(slots=True, eq=False)
class _Copy:
    move: Move
    target: str
    due: float
    suspect: bool = False  #: one of several that were on their way when the broker closed


class Mover:
    """Carries out moves; connects with the first, and again after a loss with the next."""

    def __init__(
        self,
        settings: Settings,
        loop: IOLoop,
        report: Callable[[Moved | MoveFailed], None],
        spool: SpoolFile,
    ) -> None:
        """`spool` is for dead letters that the broker does not let us store."""
        self._settings = settings
        self._loop = loop
        self._report = report
        self._spool = spool
        self._link: Link | None = None
        self._leaving: Link | None = None  # closes in order
        self._channel: Channel | None = None  # open, confirming
        self._waiting: deque[_Copy] = deque()  # suspects first
        self._alone: _Copy | None = None  # a suspect on its way: nothing else may be
        self._sent: dict[int, _Copy] = {}  # by delivery tag
        self._last_tag = 0
        self._existing: set[str] = set()
        self._declaring: set[str] = set()
        self._sweeping = False

    def move(self, move: Move) -> None:
        copy = _Copy(move, target(move), time.monotonic() + PATIENCE)
        if move.form is Form.KEPT:
            self._bury([copy], move.lacking)
        elif cause := too_long(copy.target):
            self._fail([copy], cause, Refusal.BARRED)
        else:
            self._waiting.append(copy)
            if not self._sweeping:
                self._sweep()
            self._advance()

    def close(self) -> None:
        """Give up what is under way and close in order, as far as the loop is still turned."""
        if self._link is not None:
            self._link.leave()
            self._leaving = self._link
        self._on_lost("the connection is closing", Fault.UNREACHABLE)

    def drop(self) -> None:
        for link in (self._link, self._leaving):
            if link is not None:
                link.drop()
        self._spool.close()

    # ── towards a channel that confirms ──────────────────────────────────────

    def _advance(self) -> None:
        if self._link is None:
            self._connect()
        if self._channel is None:
            return
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            copy = waiting.popleft()
            if copy.target not in self._existing:
                self._waiting.append(copy)
                self._declare(copy)
            elif self._alone or (copy.suspect and self._sent):
                self._waiting += [copy, *waiting]  # in their order, once that has ended
                return
            else:
                self._publish(copy)

    def _connect(self) -> None:
        try:
            self._link = Link(
                self._settings, "dead letters and retries", self._loop,
                self._open_channel, self._on_lost,
            )  # fmt: skip
        except OSError as error:
            self._on_lost(str(error), Fault.REFUSED)

    def _open_channel(self) -> None:
        if self._link is not None and self._link.is_open:
            self._link.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        assert self._link is not None
        # What cannot be routed comes back whole, with headers that pika may not survive.
        self._link.slicer.sinks[channel.channel_number] = Mute()
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_callback(self._on_returned, [spec.Basic.Return], one_shot=False)
        channel.confirm_delivery(self._on_confirm, callback=partial(self._on_confirming, channel))

    def _on_confirming(self, channel: Channel, _: Any) -> None:
        self._channel = channel
        self._last_tag = 0
        self._advance()

    def _on_channel_closed(self, channel: Channel, reason: Exception) -> None:
        self._channel = None
        if self._link is not None and not self._link.is_closed:
            self._link.slicer.sinks.pop(channel.channel_number, None)
            sent, code = list(self._sent.values()), code_of(reason)
            if code == FORBIDDEN:  # to publish at all
                self._refuse(sent, code, str(reason))
            else:
                self._suspect(sent, str(reason), Refusal.UNFIT)
            self._open_channel()

    def _on_lost(self, cause: str, fault: Fault) -> None:
        blames = self._link is not None and self._link.reply_code in _BLAMES
        self._link = self._channel = None
        self._existing.clear()
        self._declaring.clear()
        if blames and self._sent:
            self._fail(self._waiting, cause)
            self._suspect(list(self._sent.values()), cause, Refusal.REFUSED)
            if self._waiting:
                self._advance()
        else:
            self._fail([*self._sent.values(), *self._waiting], cause)

    def _suspect(self, sent: list[_Copy], cause: str, refusal: Refusal) -> None:
        """The broker closed over one of these: each is sent alone, until one is known to be it."""
        if len(sent) == 1:
            self._fail(sent, cause, refusal)
            return
        self._sent.clear()
        for copy in reversed(sent):
            copy.suspect, copy.due = True, time.monotonic() + PATIENCE
            self._waiting.appendleft(copy)

    # ── queues ───────────────────────────────────────────────────────────────

    def _declare(self, copy: _Copy) -> None:
        if copy.target not in self._declaring:
            assert self._link is not None
            broker = self._link.broker
            self._declaring.add(copy.target)
            if copy.move.dead:
                asked = partial(self._on_asked, self._link, copy)
                Making(self._link, copy.target, [], asked).begin()
            else:
                self._make(self._link, copy, ways(copy.move.queue, copy.move.delay, broker))

    def _on_asked(self, link: Link, copy: _Copy, code: int, cause: str) -> None:
        """A queue of dead letters that is missing is made of the type of its queue."""
        if code != MISSING:
            self._on_made(link, copy.target, code, cause)
            return

        def make(kind: str) -> None:
            self._make(link, copy, dead_ways(kind, link.broker))

        Kind(link, copy.move.queue, make).begin()

    def _make(self, link: Link, copy: _Copy, ways: list[dict[str, Any]]) -> None:
        Making(link, copy.target, ways, partial(self._on_made, link, copy.target)).begin()

    def _on_made(self, link: Link, target: str, code: int, cause: str) -> None:
        if link is not self._link:
            return
        self._declaring.discard(target)
        if code:
            self._refuse([copy for copy in self._waiting if copy.target == target], code, cause)
            return
        self._existing.add(target)
        self._advance()

    def _refuse(self, copies: list[_Copy], code: int, cause: str) -> None:
        """What may not be stored on the broker: dead letters have a place of last resort."""
        if code == MISSING:  # its queue has no node just now
            self._fail(copies, cause)
        elif code == FORBIDDEN:
            self._bury([copy for copy in copies if copy.move.dead], cause)
            for copy in [copy for copy in copies if not copy.move.dead]:
                needed = f"{cause}: {needed_for_retries(copy.move.queue)}"
                self._fail([copy], needed, Refusal.BARRED)
        else:
            self._fail(copies, cause, Refusal.REFUSED)

    def _bury(self, copies: list[_Copy], cause: str) -> None:
        for copy in copies:
            try:
                bury_delivery(self._spool, copy.move)
            except CallboardError as error:
                self._fail([copy], f"{cause}; nor in the spool: {error}")
            except Exception as error:  # of this copy alone
                logger.exception("%s: a dead letter cannot be kept", self._settings)
                self._fail([copy], f"{cause}; nor in the spool: {error!r}", Refusal.UNFIT)
            else:
                logger.warning(
                    "%s: a dead letter of %s is kept in spool://%s: %s",
                    *(self._settings, copy.move.queue, self._spool.path, cause),
                )
                self._end([copy], Moved)

    # ── copies ───────────────────────────────────────────────────────────────

    def _publish(self, copy: _Copy) -> None:
        assert self._channel is not None
        assert self._link is not None
        if not self._channel.is_open:
            self._fail([copy], "its channel is closing")
            return
        try:
            delivery = Delivery(copy.move.raw)
            properties = copies.properties(copy.move, delivery, self._link.frame_max - FRAME)
            self._channel.basic_publish(
                "", copy.target, delivery.body, RawProperties(properties), mandatory=True
            )
        except Exception as error:  # whatever a message holds: its neighbours go on
            self._fail([copy], str(error) or repr(error), Refusal.UNFIT)
            return
        self._last_tag += 1
        self._sent[self._last_tag] = copy
        if copy.suspect:
            self._alone = copy

    def _on_confirm(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        done = [sent for sent in self._sent if sent == tag or (multiple and sent < tag)]
        copies = [self._sent.pop(sent) for sent in done]
        if self._alone in copies:
            self._alone = None
        if isinstance(frame.method, spec.Basic.Ack):
            for copy in copies:
                self._report(Moved(copy.move.token))
        else:
            self._fail(copies, "the broker refused to store it", Refusal.REFUSED)
        if self._waiting and self._channel is not None:
            self._advance()

    def _on_returned(self, frame: Any) -> None:
        # A return names no copy, only the queue: all on their way there count as not
        # stored. A copy too many is better than none.
        name = frame.method.routing_key
        self._existing.discard(name)
        affected = [copy for copy in self._sent.values() if copy.target == name]
        cause = f"{name}: {frame.method.reply_code} {frame.method.reply_text}"
        self._fail(affected, cause, Refusal.REFUSED)

    def _sweep(self) -> None:
        now = time.monotonic()
        late = [copy for copy in (*self._sent.values(), *self._waiting) if copy.due <= now]
        if late:
            blocked = self._link.blocked if self._link is not None else ""
            because = f": the broker takes no publishing: {blocked}" if blocked else ""
            self._fail(late, f"not confirmed within {PATIENCE:.0f} s{because}")
        self._sweeping = bool(self._sent or self._waiting)
        if self._sweeping:
            self._loop.call_later(1.0, self._sweep)

    def _fail(self, copies: Iterable[_Copy], cause: str, refusal: Refusal = Refusal.AWAY) -> None:
        self._end(copies, lambda token: MoveFailed(token, cause, refusal))

    def _end(self, copies: Iterable[_Copy], outcome: Callable[[int], Moved | MoveFailed]) -> None:
        ended = set(copies)
        self._waiting = deque(copy for copy in self._waiting if copy not in ended)
        self._sent = {tag: copy for tag, copy in self._sent.items() if copy not in ended}
        if self._alone in ended:
            self._alone = None
        for copy in ended:
            self._report(outcome(copy.move.token))
