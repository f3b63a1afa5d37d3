"""The part of a connection that hands deliveries to its batcher and settles them with the world."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from actors.log import own_logger
from actors.logic.messages.plain import encodable
from actors.logic.settlement.copying import Refusal, next_form
from actors.logic.settlement.failure import Outcome, next_attempts
from actors.logic.settlement.unacked import SentChunks, Unacked
from actors.roles.context import Context
from actors.roles.port import (
    CancelRequested,
    ConnectionClient,
    DeadLettered,
    Fetched,
    Republish,
    Republished,
    RepublishFailed,
)
from actors.roles.protocol import (
    Began,
    Cancel,
    Cancellation,
    Deliveries,
    Outstanding,
    Reminder,
    Settlement,
    Single,
)

log = own_logger("actors.connection")

#: Seconds between two looks at what is outstanding.
ROUND_S = 2.0
#: Seconds that a snoozed delivery may wait here; for longer it waits outside.
SNOOZE_HERE = 60.0
#: Seconds until it is said again why copies cannot be stored.
TELL_AGAIN = 60.0
#: Seconds for which the batcher may owe an answer.
SILENCE_S = 4 * ROUND_S
#: Seconds that a requeue waits where half the prefetch is held already.
CROWDED_WAIT_S = 1.0

_ITEM = array("I").itemsize


@dataclass(slots=True)
class _Republishing:
    """A delivery that is being put elsewhere."""

    request: Republish
    back: Outcome  #: how its message returns where there is no copy
    refused: int = 0  #: times, in this form


class Settler:
    """The part of a connection that answers for deliveries."""

    def __init__(self, name: str, context: Context, client: ConnectionClient) -> None:
        self.unacked = Unacked()
        self.batcher = ""
        self.draining = False
        self.last_came = 0.0
        self.replies_lost = 0  #: whose callers were gone
        self.limits: dict[str, int | None] = {}  #: of deliveries, by queue
        self._name = name
        self._context = context
        self._client = client
        self._incarnation = context.random.getrandbits(64)
        self._republishing: dict[int, _Republishing] = {}
        self._stuck: dict[int, str] = {}  # why a move is tried again, by its token
        self._last_token = 0
        self._asked: float | None = None  # since when the batcher owes an answer
        self._told: dict[str, float] = {}  # why a copy could not be stored, and when it was said

    def meet(self, batcher: str) -> None:
        """A new batcher knows nothing of what the old one held: that returns to the world."""
        if batcher == self.batcher:
            return
        if self.batcher:
            count = self.unacked.give_back()
            log.warning("connection %s: its batcher is gone, returns %d", self._name, count)
        self.batcher, self._asked = batcher, None
        self.unacked.sent_chunks = SentChunks()

    def end(self, epoch: int) -> None:
        """A channel is gone: nothing that came on it can be settled any more."""
        self.unacked.end(epoch)
        self._republishing = {
            t: one for t, one in self._republishing.items() if one.request.epoch != epoch
        }
        self._stuck = {t: trouble for t, trouble in self._stuck.items() if t in self._republishing}

    # ── out to the batcher ────────────────────────────────────────────────────

    def fetched(self, event: Fetched, now: float) -> None:
        count = len(event.ends) // _ITEM
        entered = self.unacked.deliver(event.epoch, count, len(event.blob), now)
        if entered is None:
            return
        self.last_came = now
        number, first, spent = entered
        deliveries = Deliveries(
            number,
            self.unacked.sent_chunks.open_from(),
            self._incarnation,
            event.queue,
            event.epoch,
            first,
            event.blob,
            event.ends,
            event.flagged,
            spent,
            self.limits.get(event.queue),
        )
        self._context.send(self.batcher, deliveries)

    def dead_lettered(self, event: DeadLettered) -> None:
        """What nobody can be given was never handed on: it is only counted and told."""
        for reason in event.reasons:
            trouble = f"a message of {event.queue} cannot be read: {reason}"
            self.unacked.dead_lettered(event.epoch, trouble)
            log.error("connection %s: %s; kept as a dead letter", self._name, trouble)

    # ── back to the world ─────────────────────────────────────────────────────

    def settlement(self, message: Settlement, now: float) -> None:
        if message.incarnation != self._incarnation:
            self.unacked.stale += 1
            return
        for epoch, first, last, outcome in message.ranges:
            self.unacked.settle(epoch, first, last, outcome)
        for single in message.singles:
            self._single(single, now)
        for report in message.reports:
            if report.error:
                self.unacked.blame(report.route, report.error)

    def _single(self, single: Single, now: float) -> None:
        outcome, delay = single.outcome, single.delay
        attempts = next_attempts(outcome, single.attempts)
        room = self.unacked.may_hold(single.epoch)
        is_short = outcome == Outcome.SNOOZE and delay <= SNOOZE_HERE
        if is_short and room and single.answer is None:  # a job waits in its store
            outcome = Outcome.RETURN
        is_asked = outcome == Outcome.ACK and single.answer is not None and single.answer.request
        if is_asked or outcome in (Outcome.DEAD_LETTER, Outcome.RETRY, Outcome.SNOOZE):
            self._republish(single, attempts, now)
        elif delay and not self.draining:
            # Where all fails at once, what finds no room waits too, or it would spin.
            wait = delay if room else min(delay, CROWDED_WAIT_S)
            self.unacked.hold(single.epoch, single.position, outcome, now + wait, attempts)
        else:
            position = single.position
            queue = self.unacked.settle(single.epoch, position, position, outcome, attempts)
            if queue and single.answer is not None:
                self._client.conclude(queue, single.epoch, position, single.answer)

    def _republish(self, single: Single, attempts: int, now: float) -> None:
        account = self.unacked.decide(single.epoch, single.position, single.outcome)
        if account is None:
            return
        self._last_token += 1
        request = Republish(
            self._last_token,
            account.queue,
            single.epoch,
            single.position,
            single.outcome == Outcome.DEAD_LETTER,
            single.delay,
            attempts,
            encodable(account.route),
            encodable(single.error),
            encodable(single.reason),
            single.raw,
            answer=single.answer,
            reply=single.outcome == Outcome.ACK,
        )
        snoozed = single.outcome == Outcome.SNOOZE
        back = Outcome.RETURN if snoozed else Outcome.REQUEUE
        self._republishing[request.token] = _Republishing(request, back)
        self._begin(request, now)

    def _begin(self, request: Republish, now: float) -> None:
        try:
            self._client.republish(request)
        except Exception as error:  # of this message's: its neighbours are not to wait with it
            log.warning("connection %s: a copy failed", self._name, exc_info=True)
            self.on_republished(RepublishFailed(request.token, repr(error), Refusal.UNFIT), now)

    @property
    def trouble(self) -> str:
        """Why a dead letter or a retry cannot be stored just now; empty where all can."""
        return next(iter(self._stuck.values()), "")

    def on_republished(self, event: Republished | RepublishFailed, now: float) -> None:
        """The original is acknowledged once its copy is safe, and not before."""
        self._stuck.pop(event.token, None)
        if isinstance(event, RepublishFailed):
            if is_republishing := self._republishing.get(event.token):
                self._failed(is_republishing, event, now)
        elif is_republishing := self._republishing.pop(event.token, None):
            self.replies_lost += not event.is_heard
            self.unacked.finish(is_republishing.request.epoch, is_republishing.request.position)
        else:  # its channel is gone: the original comes back beside the copy
            self.unacked.stale += 1
            log.warning("connection %s: a copy too many: its original is back", self._name)

    def _failed(self, is_republishing: _Republishing, event: RepublishFailed, now: float) -> None:
        """Try it again, in another form where this one has no future, or give it up."""
        request = is_republishing.request
        is_republishing.refused += event.refusal is not Refusal.AWAY
        form = next_form(request.form, event.refusal, is_republishing.refused, dead=request.dead)
        kind = "replies" if request.reply else "dead letters" if request.dead else "retries"
        trouble = f"{kind} of {request.queue}: {event.cause}"
        if form is None:
            trouble += "; without a copy the message waits here and returns to its queue"
            self._return(is_republishing, now)
        elif form != request.form:
            lacking = encodable(event.cause) if form > request.form else ""
            is_republishing.request, is_republishing.refused = (
                request._replace(form=form, lacking=lacking),
                0,
            )
        self._tell(request.route, trouble, now)
        if form is not None and form > request.form:
            self._begin(is_republishing.request, now)
        elif form is not None:
            self._stuck[event.token] = trouble
            self._context.remind(ROUND_S, Reminder("republish", event.token))

    def _return(self, is_republishing: _Republishing, now: float) -> None:
        """There will be no copy: the message itself waits as long as it may, and returns."""
        request = is_republishing.request
        del self._republishing[request.token]
        room = self.unacked.may_hold(request.epoch)
        wait = 0.0 if self.draining else min(request.delay, SNOOZE_HERE if room else CROWDED_WAIT_S)
        self.unacked.postpone(
            request.epoch, request.position, is_republishing.back, now + wait, request.attempts
        )

    def _tell(self, route: str, trouble: str, now: float) -> None:
        self.unacked.blame(route, trouble)
        if now >= self._told.get(trouble, -math.inf) + TELL_AGAIN:
            self._told = {what: at for what, at in self._told.items() if now < at + TELL_AGAIN}
            self._told[trouble] = now
            log.error("connection %s: %s", self._name, trouble)

    def republish_again(self, token: int, now: float) -> None:
        if is_republishing := self._republishing.get(token):
            self._begin(is_republishing.request, now)

    def release(self, now: float) -> None:
        """What is held for later returns now."""
        self.unacked.due(math.inf)
        self.flush(now)

    def flush(self, now: float) -> None:
        """All that was settled in this turn goes out in one write a queue."""
        self.unacked.due(now)
        for queue, epoch, flush in self.unacked.flushes():
            self._client.settle(queue, epoch, flush)

    # ── jobs ──────────────────────────────────────────────────────────────────

    def began(self, message: Began) -> set[str]:
        """Handlers work on jobs: tell their store; returns their queues."""
        if message.incarnation != self._incarnation:
            return set()
        begun: dict[int, list[int]] = {}
        for job in message.jobs:
            begun.setdefault(job.epoch, []).append(job.position)
        for epoch, positions in begun.items():
            if queue := self.unacked.queue_of(epoch):
                self._client.begin(queue, epoch, tuple(positions), message.worker)
        for job in message.jobs:
            if job.progress is not None and (queue := self.unacked.queue_of(job.epoch)):
                self._client.report(queue, job.epoch, job.position, job.progress)
            if job.request:
                self._client.notify(job.request, message.worker, job.progress)
        return {self.unacked.queue_of(epoch) for epoch in begun} - {""}

    def cancel(self, event: CancelRequested) -> None:
        """Somebody cancels a job that was handed on: whoever has it is to answer."""
        job = Cancellation(event.epoch, event.position, event.stop)
        self._context.send(self.batcher, Cancel(self._incarnation, (job,)))

    # ── what may have got lost ────────────────────────────────────────────────

    def cut_off(self, now: float) -> bool:
        """Whether the batcher answers no question: frames to it or from it are lost."""
        return self._asked is not None and now >= self._asked + SILENCE_S

    def ask_what_is_held(self, now: float, old: Iterable[tuple[int, int]] = ()) -> None:
        """Tell the batcher which chunks are open here, and what of them is too old to begin.

        In a drain also that none is: it may wait for one that got lost, and then was settled
        or came to its epoch's end.
        """
        sent_chunks = self.unacked.sent_chunks
        open_chunks = tuple(sent_chunks.open())
        if not len(sent_chunks):
            self._asked = None
        elif self._asked is None:
            self._asked = now
        if len(sent_chunks) or (self.draining and self.batcher):
            self._context.send(self.batcher, Outstanding(open_chunks, sent_chunks.next, tuple(old)))

    def held(self, message: Outstanding, now: float) -> None:
        """The batcher's answer: a chunk that it does not know, round after round, is lost."""
        self._asked = None
        sent_chunks = self.unacked.sent_chunks
        sent_chunks.open()
        for sent in sent_chunks.missing(set(message.numbers), message.next, now - ROUND_S):
            log.warning("connection %s: a chunk got lost, returned", self._name)
            self.unacked.lose(sent)
