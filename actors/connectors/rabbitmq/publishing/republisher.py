"""Copies of deliveries to other queues, and replies to callers, each proven stored before it is
reported.

They travel on a connection of their own: a broker that is low on memory stops reading
from a connection that publishes, and acknowledgements behind a copy would wait with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from actors.connectors.rabbitmq.amqp import Link, Settings
from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.connectors.rabbitmq.publishing import copies
from actors.connectors.rabbitmq.publishing.confirming import ConfirmingChannel
from actors.connectors.rabbitmq.publishing.copies import RawProperties, target
from actors.connectors.rabbitmq.publishing.replies import Reply, reply_to
from actors.connectors.rabbitmq.queues.declare import (
    FORBIDDEN,
    MISSING,
    Declaration,
    code_of,
    needed_for_retries,
    too_long,
)
from actors.connectors.rabbitmq.queues.queue_kind import Kind, dead_ways
from actors.connectors.rabbitmq.queues.retry_queues import ways
from actors.connectors.spool.dead_letters import store_delivery_as_dead_letter
from actors.connectors.spool.file import SpoolFile
from actors.errors import CallboardError, Fault
from actors.log import own_logger
from actors.logic.consuming.frames import Delivery
from actors.logic.settlement.copying import Form, Refusal
from actors.roles.port import Republish, Republished, RepublishFailed

#: Bytes of a frame that its properties cannot have: type, channel, sizes, class, end.
FRAME = 32

#: Seconds from the call until a copy must be confirmed.
CONFIRM_TIMEOUT_S = 10.0

#: Words to callers that wait for a channel; of more the oldest are dropped.
NOTICES_MAX = 1000

logger = own_logger("actors.connection")


#: Codes with which a broker closes a connection over what it was sent, or fails over it.
_BLAMES = range(501, 542)


@dataclass(slots=True, eq=False)
class _Copy:
    request: Republish
    queue: str  #: that the copy goes to
    due: float
    reply: Reply | None = None  #: to a caller, as long as that is not done: it goes first
    is_heard: bool = True  #: the reply found its queue
    suspect: bool = False  #: one of several that were on their way when the broker closed

    @property
    def target(self) -> str:
        return self.queue if self.reply is None else self.reply.to


class Republisher:
    """Carries out moves; connects with the first, and again after a loss with the next."""

    def __init__(
        self,
        settings: Settings,
        loop: IOLoop,
        report: Callable[[Republished | RepublishFailed], None],
        spool: SpoolFile,
        tasks: Collection[str] = (),
    ) -> None:
        """`spool` is for dead letters that the broker does not let us store; `tasks` are queues
        of jobs, whose callers may wait."""
        self._tasks = tasks
        self._notices: deque[Reply] = deque(maxlen=NOTICES_MAX)
        self._settings = settings
        self._loop = loop
        self._report = report
        self._spool = spool
        self._link: Link | None = None
        self._leaving: Link | None = None  # closes in order
        self._channel: ConfirmingChannel[_Copy] | None = None
        self._waiting: deque[_Copy] = deque()  # suspects first
        self._alone: _Copy | None = None  # a suspect on its way: nothing else may be
        self._existing: set[str] = set()
        self._declaring: set[str] = set()
        self._sweeping = False

    def republish(self, request: Republish) -> None:
        copy = _Copy(request, target(request), time.monotonic() + CONFIRM_TIMEOUT_S)
        is_again = request.form is not Form.WHOLE  # and its caller was answered
        if (request.reply or request.dead) and request.queue in self._tasks and not is_again:
            copy.reply = reply_to(request)
        if request.reply and copy.reply is None:
            self._end([copy], Republished)
        elif request.form is Form.KEPT:
            self._store_dead_letters([copy], request.lacking)
        elif cause := "" if request.reply else too_long(copy.queue):
            self._fail([copy], cause, Refusal.BARRED)
        else:
            self._waiting.append(copy)
            if not self._sweeping:
                self._sweep()
            self._advance()

    def notify(self, notice: Reply) -> None:
        """Sends a word to a caller; it is not missed where it gets lost."""
        self._notices.append(notice)
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
        if self._channel is None or not self._channel.is_open:
            return
        while self._notices:
            notice = self._notices.popleft()
            self._channel.notify(notice.to, notice.body, notice.properties)
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            copy = waiting.popleft()
            if copy.reply is None and copy.target not in self._existing:
                self._waiting.append(copy)
                self._declare(copy)
            elif self._alone or (copy.suspect and self._unconfirmed):
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
            self._channel = ConfirmingChannel(
                self._link,
                on_ready=self._advance,
                on_closed=self._on_channel_closed,
                on_confirmed=self._on_confirmed,
                on_returned=self._on_returned,
            )

    def _on_channel_closed(self, reason: Exception) -> None:
        if self._link is not None and not self._link.is_closed:
            sent, code = self._unconfirmed, code_of(reason)
            self._channel = None
            if code == FORBIDDEN:  # to publish at all
                self._refuse(sent, code, str(reason))
            else:
                self._suspect(sent, str(reason), Refusal.UNFIT)
            self._open_channel()

    @property
    def _unconfirmed(self) -> list[_Copy]:
        return list(self._channel.unconfirmed.values()) if self._channel is not None else []

    def _on_lost(self, cause: str, fault: Fault) -> None:
        blames = self._link is not None and self._link.reply_code in _BLAMES
        sent = self._unconfirmed
        self._link = self._channel = None
        self._existing.clear()
        self._declaring.clear()
        if blames and sent:
            self._fail(self._waiting, cause)
            self._suspect(sent, cause, Refusal.REFUSED)
            if self._waiting:
                self._advance()
        else:
            self._fail([*sent, *self._waiting], cause)

    def _suspect(self, sent: list[_Copy], cause: str, refusal: Refusal) -> None:
        """The broker closed over one of these: each is sent alone, until one is known to be it."""
        if len(sent) == 1:
            self._fail(sent, cause, refusal)
            return
        for copy in reversed(sent):
            copy.suspect, copy.due = True, time.monotonic() + CONFIRM_TIMEOUT_S
            self._waiting.appendleft(copy)

    # ── queues ───────────────────────────────────────────────────────────────

    def _declare(self, copy: _Copy) -> None:
        if copy.target not in self._declaring:
            assert self._link is not None
            broker = self._link.broker
            self._declaring.add(copy.target)
            if copy.request.dead:
                asked = partial(self._on_asked, self._link, copy)
                Declaration(self._link, copy.target, [], asked).begin()
            else:
                self._make(self._link, copy, ways(copy.request.queue, copy.request.delay, broker))

    def _on_asked(self, link: Link, copy: _Copy, code: int, cause: str) -> None:
        """A queue of dead letters that is missing is made of the type of its queue."""
        if code != MISSING:
            self._on_made(link, copy.target, code, cause)
            return

        def make(kind: str) -> None:
            self._make(link, copy, dead_ways(kind, link.broker))

        Kind(link, copy.request.queue, make).begin()

    def _make(self, link: Link, copy: _Copy, ways: list[dict[str, Any]]) -> None:
        Declaration(link, copy.target, ways, partial(self._on_made, link, copy.target)).begin()

    def _on_made(self, link: Link, target: str, code: int, cause: str) -> None:
        if link is not self._link:
            return
        self._declaring.discard(target)
        if code:
            refused = [copy for copy in self._waiting if copy.queue == target and not copy.reply]
            self._refuse(refused, code, cause)
            return
        self._existing.add(target)
        self._advance()

    def _refuse(self, copies: list[_Copy], code: int, cause: str) -> None:
        """What may not be stored on the broker: dead letters have a place of last resort."""
        if code == MISSING:  # its queue has no node just now
            self._fail(copies, cause)
        elif code == FORBIDDEN:
            self._store_dead_letters([copy for copy in copies if copy.request.dead], cause)
            for copy in [copy for copy in copies if not copy.request.dead]:
                needed = f"{cause}: {needed_for_retries(copy.request.queue)}"
                self._fail([copy], needed, Refusal.BARRED)
        else:
            self._fail(copies, cause, Refusal.REFUSED)

    def _store_dead_letters(self, copies: list[_Copy], cause: str) -> None:
        for copy in copies:
            try:
                store_delivery_as_dead_letter(self._spool, copy.request)
            except CallboardError as error:
                self._fail([copy], f"{cause}; nor in the spool: {error}")
            except Exception as error:  # of this copy alone
                logger.exception("%s: a dead letter cannot be kept", self._settings)
                self._fail([copy], f"{cause}; nor in the spool: {error!r}", Refusal.UNFIT)
            else:
                logger.warning(
                    "%s: a dead letter of %s is kept in spool://%s: %s",
                    *(self._settings, copy.request.queue, self._spool.path, cause),
                )
                self._end([copy], Republished)

    # ── copies ───────────────────────────────────────────────────────────────

    def _publish(self, copy: _Copy) -> None:
        assert self._channel is not None
        assert self._link is not None
        if not self._channel.is_open:
            self._fail([copy], "its channel is closing")
            return
        try:
            if copy.reply is not None:
                reply = copy.reply
                self._channel.publish(
                    copy, reply.to, reply.body, reply.properties, mandatory=reply.is_mandatory
                )
                copy.is_heard = True
                return
            delivery = Delivery(copy.request.raw)
            properties = copies.properties(copy.request, delivery, self._link.frame_max - FRAME)
            self._channel.publish(copy, copy.target, delivery.body, RawProperties(properties))
        except Exception as error:  # whatever a message holds: its neighbours go on
            self._fail([copy], str(error) or repr(error), Refusal.UNFIT)
            return
        if copy.suspect:
            self._alone = copy

    def _on_confirmed(self, copies: list[_Copy], stored: bool) -> None:
        if self._alone in copies:
            self._alone = None
        replies = [copy for copy in copies if copy.reply is not None]
        self._replied(replies, stored=stored)
        copies = [copy for copy in copies if copy not in replies]
        if stored:
            for copy in copies:
                self._report(Republished(copy.request.token, copy.is_heard))
        else:
            self._fail(copies, "the broker refused to store it", Refusal.REFUSED)
        if self._waiting and self._channel is not None:
            self._advance()

    def _replied(self, copies: list[_Copy], *, stored: bool) -> None:
        """A caller has its reply, or is gone: what else is to be done of the delivery comes now."""
        for copy in copies:
            copy.reply, copy.is_heard = None, copy.is_heard and stored
            if copy.request.reply:
                self._report(Republished(copy.request.token, copy.is_heard))
            else:
                copy.due = time.monotonic() + CONFIRM_TIMEOUT_S
                self._waiting.append(copy)

    def _on_returned(self, method: Any) -> None:
        for copy in self._unconfirmed:
            if copy.reply is not None and copy.target == method.routing_key:
                copy.is_heard = False  # its confirm follows
        # All on their way there count as not stored. A copy too many is better than none.
        name = method.routing_key
        self._existing.discard(name)
        affected = [copy for copy in self._unconfirmed if copy.queue == name and not copy.reply]
        cause = f"{name}: {method.reply_code} {method.reply_text}"
        self._fail(affected, cause, Refusal.REFUSED)

    def _sweep(self) -> None:
        now = time.monotonic()
        late = [copy for copy in (*self._unconfirmed, *self._waiting) if copy.due <= now]
        if late:
            blocked = self._link.blocked if self._link is not None else ""
            because = f": the broker takes no publishing: {blocked}" if blocked else ""
            self._fail(late, f"not confirmed within {CONFIRM_TIMEOUT_S:.0f} s{because}")
        self._sweeping = bool(self._unconfirmed or self._waiting)
        if self._sweeping:
            self._loop.call_later(1.0, self._sweep)

    def _fail(self, copies: Iterable[_Copy], cause: str, refusal: Refusal = Refusal.AWAY) -> None:
        if refusal is not Refusal.AWAY:  # no caller's reply is worth a delivery that never ends
            unheard = [copy for copy in copies if copy.reply is not None]
            if unheard:
                logger.warning("%s: %d replies are lost: %s", self._settings, len(unheard), cause)
            self._waiting = deque(copy for copy in self._waiting if copy not in unheard)
            if self._channel is not None:
                self._channel.forget(unheard)
            if self._alone in unheard:
                self._alone = None
            self._replied(unheard, stored=False)
            copies = [copy for copy in copies if copy not in unheard]
        self._end(copies, lambda token: RepublishFailed(token, cause, refusal))

    def _end(
        self, copies: Iterable[_Copy], outcome: Callable[[int], Republished | RepublishFailed]
    ) -> None:
        ended = set(copies)
        self._waiting = deque(copy for copy in self._waiting if copy not in ended)
        if self._channel is not None:
            self._channel.forget(ended)
        if self._alone in ended:
            self._alone = None
        for copy in ended:
            self._report(outcome(copy.request.token))
