"""One event stream on the owner's side: attempts to read it, and what came of them."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Iterator
from itertools import accumulate
from random import Random
from typing import Any

from actors.connectors.sse.http import LONGEST_HOLD, StreamLost, StreamOver, Target
from actors.connectors.sse.stream import StreamEvent
from actors.connectors.sse.thread import Began, Came, StreamThread, What
from actors.errors import Fault
from actors.log import own_logger
from actors.logic.checkpoint import gap, resumable
from actors.logic.intake import Intake, Kept, Seen
from actors.logic.records import pack
from actors.logic.restart import HEALTHY, Backoff
from actors.roles.port import Consuming, Fetched, QueueLost

log = own_logger("actors.sse")


class Source:
    """Keeps one stream flowing into its `Intake`.

    A receipt must outlive the stream it came on. So while anything is unsettled, a
    stream that breaks is opened again under the same epoch; `QueueLost` is said once
    nothing is, and then the owner decides when to go on.
    """

    def __init__(
        self,
        connection: str,
        queue: str,
        target: Target,
        resume_from: str,
        attempts: Iterator[int],
    ) -> None:
        self._name = f"connection {connection}: stream {queue}"  # for people
        self.queue = queue
        self.target = target
        self.intake = Intake(resume_from)
        self.attempt = 0  #: the one whose news count; 0: none is under way
        self._attempts = attempts
        self._last_id = resume_from  # of the last event received
        self._asked = ""  # the id this connection was asked to follow, until an event has come
        self._seen = Seen()
        self._has_ids = True
        self._began = False  # this attempt has been answered with a stream
        self._brought = False  # and that has brought an event
        self._paused = False  # the reader waits for `resume`
        self._over = False  # the server has no more, for good
        self._lost: StreamLost | None = None  # to be said once nothing is unsettled
        self._consumed = False  # `Consuming` was said, and no `Stopped` since
        self._stopped = False
        self._not_before = 0.0
        self._retry: float | None = None
        self._backoff = Backoff()
        self._random = Random()

    def begin(self, thread: StreamThread, epoch: int, window: int) -> None:
        if self.attempt:
            thread.stop(self.attempt)
        self.intake.begin(epoch, window)
        self.attempt, self._began, self._lost = 0, False, None
        self._consumed = self._stopped = False
        self.resume(thread)

    def stop(self) -> None:
        """Hand nothing out and read no more. The connection stays: what it has yet to bring
        might not come again."""
        self._stopped, self._consumed, self._lost = True, False, None

    def resume(self, thread: StreamThread) -> None:
        """Go on after `stop`, in the same epoch."""
        self._stopped = False
        if not self.attempt and not self._over:
            self._connect(thread)

    def _connect(self, thread: StreamThread) -> None:
        self.attempt = next(self._attempts)
        self._asked = self._last_id
        self._began = self._brought = self._paused = False
        self._seen.reconnect()
        thread.start(self.attempt, self._not_before, self.target, self._last_id)

    # ── news from the thread ───────────────────────────────────────────────────

    def on(self, what: What, now: float, thread: StreamThread) -> None:
        match what:
            case Began():
                self._began = self._paused = True
            case Came():
                self._paused = True
                self._take(what)
            case StreamOver():
                log.info("%s: the server has no more (204): not asked again", self._name)
                self.attempt, self._over = 0, True
            case StreamLost():
                self.attempt = 0
                self._break(what, now, thread)

    def _take(self, came: Came) -> None:
        if came.retry is not None:
            self._retry = min(came.retry, LONGEST_HOLD)
        for event in came.events:
            self._watch_ids(event)
            # An event without an id of its own cannot be told from one that is alike.
            if event.own_id and event.id and self._seen.repeats(event.id, event.event, event.data):
                continue
            self._brought = True
            usable = resumable(event.id)
            if usable:
                self._last_id = event.id
            self.intake.arrive(self._last_id, _record(self.queue, event, usable))
        if came.passed is not None and resumable(came.passed):
            self._last_id = came.passed
            self.intake.pass_over(came.passed)

    def _watch_ids(self, event: StreamEvent) -> None:
        if not event.id and self._has_ids:
            self._has_ids = False
            log.warning("%s: has no ids: at most once across restarts", self._name)
        if event.own_id and self._asked:
            if oddity := gap(self._asked, event.id):
                log.warning("%s: %s", self._name, oddity)
            self._asked = ""

    def _break(self, lost: StreamLost, now: float, thread: StreamThread) -> None:
        self._not_before = now + max(lost.hold, self._retry or 0.0)
        if self._stopped:
            return
        if lost.fault is not Fault.UNREACHABLE or not self.intake.unsettled:
            self._lost = lost
            return
        delay = self._backoff.fail(HEALTHY if self._brought else 0.0, self._random)
        self._not_before = max(self._not_before, now + delay)
        seconds = self._not_before - now
        log.warning("%s: %s; again in %.1f s", self._name, lost.cause, seconds)
        self._connect(thread)

    # ── towards the owner ──────────────────────────────────────────────────────

    @property
    def due(self) -> float | None:
        """When the next delayed event may be handed out."""
        return self.intake.due if self._flows else None

    @property
    def _flows(self) -> bool:
        return self._consumed and not self._lost

    def turn(self, now: float, thread: StreamThread, *, may_read: bool) -> list[Any]:
        """Hand out, read on where there is room, and say what happened."""
        reports: list[Any] = []
        epoch = self.intake.epoch
        if (self._began or self._over) and not (self._consumed or self._stopped):
            self._consumed = True
            reports.append(Consuming(self.queue, epoch))
        if self._flows:
            reports += self._hand_out(now)
            if self._paused and may_read and self.intake.has_room:
                self._paused = False
                thread.resume(self.attempt)
        if self._lost and not self.intake.unsettled:
            lost = self._lost
            reports.append(QueueLost(self.queue, epoch, lost.cause, lost.fault, self._brought))
            self._lost, self._consumed, self._began = None, False, False
        return reports

    def _hand_out(self, now: float) -> Iterator[Fetched]:
        while True:
            first, kept = self.intake.hand_out(now)
            if not kept:
                return
            yield _fetched(self.queue, self.intake.epoch, first, kept)


def _record(queue: str, event: StreamEvent, usable_id: bool) -> bytes:
    headers: dict[str, Any] = {"event": event.event, "id": event.id}
    if event.retry is not None:
        headers["retry"] = event.retry
    id = event.id if usable_id else ""
    return pack(id, queue, json.dumps(headers).encode(), 0, time.time(), 0, event.data.encode())


def _fetched(queue: str, epoch: int, first: int, kept: list[Kept]) -> Fetched:
    ends = array("I", accumulate(len(one.raw) for one in kept))
    flagged = tuple((index, one.attempts) for index, one in enumerate(kept) if one.attempts)
    blob = b"".join(one.raw for one in kept)
    return Fetched(queue, epoch, first, blob, ends.tobytes(), flagged)
