"""One event stream on the owner's side: attempts to read it, and what came of them."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Iterator
from enum import Enum, auto
from itertools import accumulate
from random import Random
from typing import Any

from actors.connectors.sse.http import LONGEST_HOLD, StreamLost, StreamOver, Target
from actors.connectors.sse.parser import StreamEvent
from actors.connectors.sse.thread import Began, Came, StreamThread, What
from actors.errors import Fault
from actors.log import own_logger
from actors.logic.consuming.event_buffer import EventBuffer, Kept, Seen, gap, resumable
from actors.logic.messages.records import pack
from actors.logic.state_machine import Machine, Table
from actors.logic.supervision.restart import HEALTHY, Backoff
from actors.roles.port import Consuming, Fetched, QueueLost


class State(Enum):
    IDLE = auto()  #: no attempt is under way
    CONNECTING = auto()  #: the first attempt of its kind: nothing is known of the server
    WAITING = auto()  #: it broke; the next attempt begins after a backoff, in the same epoch
    PAUSED = auto()  #: the reader waits for room
    STREAMING = auto()  #: the reader reads
    LOST = auto()  #: it broke; the owner hears of it once nothing is unsettled
    CLOSED = auto()  #: the server has no more (204), for good


class Event(Enum):
    CONNECT = auto()
    ANSWERED = auto()  #: with a stream
    BROUGHT = auto()  #: what one read found; the reader waits
    RESUME = auto()
    BROKE = auto()  #: for the owner to decide
    RETRY = auto()  #: it broke, and events are unsettled that need this epoch
    NO_MORE = auto()  #: 204
    REPORTED = auto()  #: the owner knows
    GIVE_UP = auto()  #: the owner wants nothing of this attempt


_ATTEMPTING = (State.CONNECTING, State.WAITING)
_ANSWERED = (State.PAUSED, State.STREAMING)

TABLE: Table[State, Event] = Table(
    "the connection of an event stream",
    State.IDLE,
    {
        (State.IDLE, Event.CONNECT): State.CONNECTING,
        **{(state, Event.ANSWERED): State.PAUSED for state in _ATTEMPTING},
        **{(state, Event.NO_MORE): State.CLOSED for state in _ATTEMPTING},
        (State.PAUSED, Event.RESUME): State.STREAMING,
        (State.STREAMING, Event.BROUGHT): State.PAUSED,
        **{(state, Event.RETRY): State.WAITING for state in (*_ATTEMPTING, *_ANSWERED)},
        **{(state, Event.BROKE): State.LOST for state in (*_ATTEMPTING, *_ANSWERED)},
        (State.LOST, Event.REPORTED): State.IDLE,
        **{
            (state, Event.GIVE_UP): State.IDLE
            for state in (State.IDLE, *_ATTEMPTING, *_ANSWERED, State.LOST)
        },
    },
)


log = own_logger("actors.sse")


#: The server has answered: there is a stream, or there never will be one.
CONSUMED = (State.PAUSED, State.STREAMING, State.CLOSED)


class Consumer(Enum):
    """The owner's side of a stream."""

    PENDING = auto()  #: it waits to hear that the stream flows
    FLOWING = auto()  #: `Consuming` was said
    STOPPED = auto()  #: nothing is handed out


class Source:
    """Keeps one stream flowing into its `EventBuffer`.

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
        self.buffer = EventBuffer(resume_from)
        self.attempt = 0  #: the one whose news count; 0: none is under way
        self._attempts = attempts
        self._last_id = resume_from  # of the last event received
        self._asked = ""  # the id this connection was asked to follow, until an event has come
        self._seen = Seen()
        self._has_ids = True
        self._stream = Machine(TABLE)
        self._consumer = Consumer.PENDING
        self._brought = False  # this attempt has brought an event
        self._lost = StreamLost("")  # why the last attempt ended
        self._not_before = 0.0
        self._retry: float | None = None
        self._backoff = Backoff()
        self._random = Random()

    @property
    def state(self) -> State:
        return self._stream.state

    def begin(self, thread: StreamThread, epoch: int, window: int) -> None:
        if self.attempt:
            thread.stop(self.attempt)
        self.buffer.begin(epoch, window)
        self._give_up()
        self._consumer = Consumer.PENDING
        self.resume(thread)

    def stop(self) -> None:
        """Hands nothing out and reads no more. The connection stays: what it has yet to bring
        might not come again."""
        self._consumer = Consumer.STOPPED
        if self.state is State.LOST:
            self._give_up()

    def resume(self, thread: StreamThread) -> None:
        """Goes on after `stop`, in the same epoch."""
        if self._consumer is Consumer.STOPPED:
            self._consumer = Consumer.PENDING
        if self.state is State.IDLE:
            self._connect(Event.CONNECT, thread)

    def _connect(self, event: Event, thread: StreamThread) -> None:
        self._stream.on_event(event)
        self.attempt = next(self._attempts)
        self._asked = self._last_id
        self._brought = False
        self._seen.reconnect()
        thread.start(self.attempt, self._not_before, self.target, self._last_id)

    def _give_up(self) -> None:
        self.attempt = 0
        if self.state is not State.CLOSED:
            self._stream.on_event(Event.GIVE_UP)

    # ── news from the thread ───────────────────────────────────────────────────

    def on(self, what: What, now: float, thread: StreamThread) -> None:
        match what:
            case Began():
                self._stream.on_event(Event.ANSWERED)
            case Came():
                self._stream.on_event(Event.BROUGHT)
                self._take(what)
            case StreamOver():
                log.info("%s: the server has no more (204): not asked again", self._name)
                self.attempt = 0
                self._stream.on_event(Event.NO_MORE)
            case StreamLost():
                self.attempt, self._lost = 0, what
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
            self.buffer.arrive(self._last_id, _record(self.queue, event, usable))
        if came.passed is not None and resumable(came.passed):
            self._last_id = came.passed
            self.buffer.pass_over(came.passed)

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
        if self._consumer is Consumer.STOPPED:
            self._give_up()
            return
        if lost.fault is not Fault.UNREACHABLE or not self.buffer.unsettled:
            self._stream.on_event(Event.BROKE)
            return
        delay = self._backoff.fail(HEALTHY if self._brought else 0.0, self._random)
        self._not_before = max(self._not_before, now + delay)
        seconds = self._not_before - now
        log.warning("%s: %s; again in %.1f s", self._name, lost.cause, seconds)
        self._connect(Event.RETRY, thread)

    # ── towards the owner ──────────────────────────────────────────────────────

    @property
    def due(self) -> float | None:
        """When the next delayed event may be handed out."""
        return self.buffer.due if self._flows else None

    @property
    def _flows(self) -> bool:
        return self._consumer is Consumer.FLOWING and self.state is not State.LOST

    def turn(self, now: float, thread: StreamThread, *, may_read: bool) -> list[Any]:
        """Hands out, reads on where there is room, and says what happened."""
        reports: list[Any] = []
        epoch = self.buffer.epoch
        if self._consumer is Consumer.PENDING and self.state in CONSUMED:
            self._consumer = Consumer.FLOWING
            reports.append(Consuming(self.queue, epoch))
        if self._flows:
            reports += self._hand_out(now)
            if self.state is State.PAUSED and may_read and self.buffer.has_room:
                self._stream.on_event(Event.RESUME)
                thread.resume(self.attempt)
        if self.state is State.LOST and not self.buffer.unsettled:
            lost = self._lost
            self._stream.on_event(Event.REPORTED)
            self._consumer = Consumer.PENDING
            reports.append(QueueLost(self.queue, epoch, lost.cause, lost.fault, self._brought))
        return reports

    def _hand_out(self, now: float) -> Iterator[Fetched]:
        while True:
            first, kept = self.buffer.hand_out(now)
            if not kept:
                return
            yield _fetched(self.queue, self.buffer.epoch, first, kept)


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
