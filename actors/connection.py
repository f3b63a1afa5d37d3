"""The connection: owns one connection to the world and answers for what it handed on.

It never sleeps and never runs user code. When it loses its peer it says so and waits
for its supervisor's `Connect`; a single queue it reopens by itself.
"""

from __future__ import annotations

import json
import logging
import math
from array import array
from dataclasses import dataclass, field

from actors.clients import (
    ConnectionClient,
    Consuming,
    Depth,
    Fetched,
    Lost,
    Move,
    Moved,
    MoveFailed,
    Opened,
    QueueLost,
    Stopped,
)
from actors.context import Context
from actors.errors import Fault
from actors.logic.counts import Counts
from actors.logic.custody import Custody
from actors.logic.failure import Verdict
from actors.logic.outbox import Outbox
from actors.logic.restart import Backoff
from actors.plan import RoutePlan, UnitPlan
from actors.protocol import (
    Configure,
    Connect,
    ConnectionLost,
    Deliveries,
    Drain,
    Drained,
    Held,
    Neighbours,
    NotReady,
    Ready,
    Reminder,
    ReportStatus,
    Settlement,
    Single,
    Status,
)

log = logging.getLogger("actors.connection")

#: Seconds between two looks at what is outstanding.
ROUND = 2.0
#: Seconds until a refused or missing queue is tried again.
SLOW = 60.0
#: Seconds without anything new after which a burst may be over.
QUIET = 1.0
#: Seconds that a snoozed delivery may wait here; for longer it waits outside.
SNOOZE_HERE = 60.0
#: Seconds after a drain's deadline in which the peer may still say goodbye.
SHUT = 1.0


@dataclass(slots=True)
class Source:
    """One queue, and the channel it is consumed on while there is one."""

    queue: str
    route: RoutePlan
    state: str = "idle"  #: idle, opening, consuming, stopping, stopped
    epoch: int = 0
    reason: str = ""
    retry_at: float = 0.0  #: not opened again before this time
    backoff: Backoff = field(default_factory=Backoff)
    since: float = 0.0
    empty: bool = False  #: as far as the world told, and nothing came since


class Connection:
    """One connection to a broker's vhost, an event stream or a spool."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._incarnation = context.random.getrandbits(64)
        self._supervisor = ""
        self._batcher = ""
        self._plan: UnitPlan | None = None
        self._state = "closed"  # closed, opening, open, shutting
        self._reason = ""
        self._fault: str = Fault.UNREACHABLE
        self._since = 0.0  # when it was opened
        self._sources: dict[str, Source] = {}
        self._last_epoch = 0
        self._custody = Custody()
        self._served: set[str] = set()  # routes that have a handler
        self._moves: dict[int, Move] = {}
        self._last_token = 0
        self._paused = False  # more bytes are unsettled than may be
        self._last_came = 0.0
        self._deadline: float | None = None  # of a drain
        self._batcher_drained = False
        self._asked = -1  # the last chunk that the batcher was told of
        self._left = 0  # deliveries that a drain had to leave
        self._next_round = 0.0
        self._alarm: float | None = None
        self._generation = 0

    def on(self, message: object, sender: str, now: float) -> None:
        match message:
            case Fetched():
                self._fetched(message, now)
            case Settlement():
                self._settlement(message, now)
            case Held():
                self._held(message, now)
            case Reminder(what="move"):
                if move := self._moves.get(message.generation):
                    self._client.move(move)
            case Reminder():
                self._alarm = None if message.generation == self._generation else self._alarm
            case Moved() | MoveFailed():
                self._moved(message)
            case Opened() | Lost() | Consuming() | QueueLost() | Stopped() | Depth():
                self._world(message, now)
            case Neighbours():
                self._neighbours(message)
            case Drained():
                self._batcher_drained = self._deadline is not None and sender == self._batcher
            case ReportStatus():
                self._context.send(sender, Status(message.round, self._report(now)))
            case Configure() | Connect() | Drain():
                self._command(message, sender, now)
            case _:
                raise TypeError(f"a connection has no use for {message}")
        self._consume(now)
        self._custody.due(now)
        self._advance_drain(now)
        self._flush()
        self._bound_memory()
        self._watch(now)

    # ── the supervisor's word ─────────────────────────────────────────────────

    def _command(self, message: Configure | Connect | Drain, sender: str, now: float) -> None:
        match message:
            case Configure(plan=UnitPlan() as plan):
                self._supervisor = sender
                not_ready = NotReady("connection", self._context.pid, self._reason or "connecting")
                self._context.send(sender, not_ready)
                if self._plan is None:
                    self._plan = plan
                    self._sources = {q: Source(q, r) for r in plan.routes for q in r.queues}
                    self._client: ConnectionClient = self._context.client(plan.kind, plan)
            case Connect() if self._state == "closed" and self._deadline is None:
                self._state = "opening"
                self._client.open()
            case Drain() if self._state == "drained":
                self._context.send(sender, Drained(self._left))
            case Drain() if self._deadline is None:
                self._deadline = now + message.seconds
                if self._state == "opening":
                    self._client.close()
                    self._state = "closed"
                for source in self._sources.values():
                    if source.state == "consuming":
                        source.state = "stopping"
                        self._client.cancel(source.queue, source.epoch)
                    elif source.state != "opening":
                        source.state = "stopped"

    def _neighbours(self, message: Neighbours) -> None:
        self._served = {route for _, route in message.handlers}
        if message.batcher != self._batcher:
            if self._batcher:
                log.warning(
                    "connection %s: returns what its batcher held, %d deliveries",
                    self._name,
                    self._custody.give_back(),
                )
            self._batcher = message.batcher
            self._custody.outbox = Outbox()
        self._announce()

    def _announce(self) -> None:
        """How it is, said again with each round of the supervisor's."""
        pid = self._context.pid
        if self._state == "closed" and self._reason:
            lost = ConnectionLost(self._reason, self._fault)
            self._context.send(self._supervisor, lost)
        elif self._consumes:
            self._context.send(self._supervisor, Ready("connection", pid))

    @property
    def _consumes(self) -> bool:
        return self._state == "open" and all(
            source.state == "consuming" for source in self._sources.values()
        )

    @property
    def _name(self) -> str:
        return self._plan.name if self._plan else self._context.name

    # ── the world's word ──────────────────────────────────────────────────────

    def _world(self, event: object, now: float) -> None:
        match event:
            case Opened(peer=peer):
                self._state, self._reason, self._since = "open", "", now
                log.info("connection %s: open, %s", self._name, peer)
            case Lost():
                self._lost(event, now)
            case Consuming(queue=queue, epoch=epoch) if self._lives(queue, epoch):
                self._consuming(self._sources[queue], now)
            case QueueLost(queue=queue, epoch=epoch) if self._lives(queue, epoch):
                self._queue_lost(self._sources[queue], event, now)
            case Stopped(queue=queue, epoch=epoch) if self._lives(queue, epoch):
                self._sources[queue].state = "stopped"
            case Depth(queue=queue, ready=ready):
                self._sources[queue].empty = ready == 0

    def _lives(self, queue: str, epoch: int) -> bool:
        return self._sources[queue].epoch == epoch

    def _lost(self, event: Lost, now: float) -> None:
        lived = now - self._since if self._state == "open" and self._since else 0.0
        shut = self._state == "shutting"
        self._state, self._reason, self._since = "closed", event.cause, 0.0
        self._fault = event.fault
        self._moves.clear()
        for source in self._sources.values():
            self._custody.end(source.epoch)
            source.epoch = 0
            if source.state != "stopped":
                source.state = "stopped" if self._deadline is not None else "idle"
        if shut:
            self._end_drain()
        else:
            lost = ConnectionLost(event.cause, event.fault, lived)
            self._context.send(self._supervisor, lost)

    def _consuming(self, source: Source, now: float) -> None:
        source.state, source.reason, source.since, source.empty = "consuming", "", now, False
        if self._deadline is not None:
            source.state = "stopping"
            self._client.cancel(source.queue, source.epoch)
        log.info("connection %s: consumes %s", self._name, source.queue)
        self._announce()

    def _queue_lost(self, source: Source, event: QueueLost, now: float) -> None:
        lived = now - source.since if source.state == "consuming" else 0.0
        self._custody.end(source.epoch)
        self._moves = {t: move for t, move in self._moves.items() if move.epoch != source.epoch}
        source.epoch, source.reason = 0, event.cause
        source.state = "stopped" if self._deadline is not None else "idle"
        delay = source.backoff.fail(lived, self._context.random)
        if event.fault != Fault.UNREACHABLE:
            delay = SLOW
        source.retry_at = now + delay
        log.warning(
            "connection %s: lost queue %s: %s; tries again in %.1f s",
            *(self._name, source.queue, event.cause, delay),
        )
        not_ready = NotReady("connection", self._context.pid, event.cause, event.fault)
        self._context.send(self._supervisor, not_ready)

    def _consume(self, now: float) -> None:
        """Open every queue that has a batcher, a handler and no channel."""
        if self._state != "open" or not self._batcher or self._deadline is not None:
            return
        for source in self._sources.values():
            served = source.route.name in self._served
            if source.state == "idle" and served and now >= source.retry_at:
                self._last_epoch += 1
                source.state, source.epoch = "opening", self._last_epoch
                route = source.route
                self._custody.begin(source.epoch, source.queue, route.name, route.prefetch)
                self._client.consume(source.queue, source.epoch, route.prefetch)

    # ── deliveries out, settlements in ────────────────────────────────────────

    def _fetched(self, event: Fetched, now: float) -> None:
        count = len(event.ends) // array("I").itemsize
        entered = self._custody.deliver(event.epoch, count, len(event.blob), now)
        if entered is None:
            return
        self._last_came = now
        self._sources[event.queue].empty = False
        number, first, spent = entered
        deliveries = Deliveries(
            number,
            self._custody.outbox.open_from(),
            self._incarnation,
            event.queue,
            event.epoch,
            first,
            event.blob,
            event.ends,
            event.flagged,
            spent,
        )
        self._context.send(self._batcher, deliveries)

    def _settlement(self, message: Settlement, now: float) -> None:
        if message.incarnation != self._incarnation:
            self._custody.stale += 1
            return
        for epoch, first, last, verdict in message.ranges:
            self._custody.settle(epoch, first, last, verdict)
        for single in message.singles:
            self._single(single, now)
        if message.error:
            epochs = [r.epoch for r in message.ranges] or [s.epoch for s in message.singles]
            self._custody.blame(epochs[0], message.error)

    def _single(self, single: Single, now: float) -> None:
        verdict, delay = single.verdict, single.delay
        if verdict == Verdict.SNOOZE and delay <= SNOOZE_HERE:
            verdict = Verdict.RETURN
        if verdict in (Verdict.DEAD_LETTER, Verdict.RETRY, Verdict.SNOOZE):
            self._move(single)
        elif delay and self._deadline is None:
            self._custody.hold(single.epoch, single.position, verdict, now + delay)
        else:
            self._custody.settle(single.epoch, single.position, single.position, verdict)

    def _move(self, single: Single) -> None:
        account = self._custody.decide(single.epoch, single.position, single.verdict)
        if account is None:
            return
        self._last_token += 1
        move = Move(
            self._last_token,
            account.queue,
            single.epoch,
            single.position,
            single.verdict == Verdict.DEAD_LETTER,
            single.delay,
            single.attempts,
            single.verdict != Verdict.SNOOZE,
            account.route,
            single.error,
            single.reason,
            single.raw,
        )
        self._moves[move.token] = move
        self._client.move(move)

    def _moved(self, event: Moved | MoveFailed) -> None:
        if isinstance(event, Moved):
            if move := self._moves.pop(event.token, None):
                self._custody.finish(move.epoch, move.position)
        elif move := self._moves.get(event.token):
            where = "dead letters of" if move.dead else "retries of"
            log.error("connection %s: %s %s: %s", self._name, where, move.queue, event.cause)
            self._context.remind(ROUND, Reminder("move", event.token))

    def _flush(self) -> None:
        """All that was settled in this turn goes out in one write a queue."""
        for queue, epoch, flush in self._custody.flushes():
            self._client.settle(queue, epoch, flush)

    # ── what may have got lost ────────────────────────────────────────────────

    def _held(self, message: Held, now: float) -> None:
        outbox = self._custody.outbox
        outbox.open()
        for sent in outbox.missing(set(message.numbers), before=now - ROUND):
            log.warning("connection %s: a chunk got lost, returned", self._name)
            self._custody.lose(sent)

    def _watch(self, now: float) -> None:
        """Tell the batcher what is open, and look again when something is due."""
        times = [source.retry_at for source in self._sources.values() if source.state == "idle"]
        if self._custody.unsettled or self._deadline is not None:
            if now >= self._next_round:
                self._next_round, self._asked = now + ROUND, -1
                outbox = self._custody.outbox
                if open_chunks := outbox.open():
                    self._context.send(self._batcher, Held(tuple(open_chunks), outbox.next))
            times.append(self._next_round)
        if self._deadline is not None:
            times += [self._deadline, self._deadline + SHUT]
        if self._plan and self._plan.burst and self._deadline is None:
            times.append(self._look_for_the_end(now))
        if due := self._custody.next_due():
            times.append(due)
        soonest = min((time for time in times if time > now), default=None)
        if soonest is not None and (self._alarm is None or soonest < self._alarm):
            self._alarm = soonest
            self._generation += 1
            self._context.remind(soonest - now, Reminder("look", self._generation))

    def _look_for_the_end(self, now: float) -> float:
        """In a burst: whether the queues are empty; returns when to look again."""
        quiet_at = self._last_came + QUIET
        if self._consumes and not self._custody.unsettled and now >= quiet_at:
            if all(source.empty for source in self._sources.values()):
                self._context.send(self._supervisor, Drained())
            for source in self._sources.values():
                self._client.measure(source.queue)
        return max(quiet_at, now + QUIET / 4)

    def _bound_memory(self) -> None:
        """Stop fetching while more bytes are unsettled than `--max-bytes`."""
        most = self._plan.max_bytes if self._plan else 0
        if not most or self._deadline is not None:
            return
        sources, held = self._sources.values(), self._custody.outbox.bytes
        if not self._paused and held > most:
            self._paused = True
            for source in (s for s in sources if s.state == "consuming"):
                source.state = "stopping"
                self._client.cancel(source.queue, source.epoch)
        elif self._paused and held <= most // 2 and all(s.state != "stopping" for s in sources):
            self._paused = False
            for source in (s for s in sources if s.state == "stopped"):
                source.state = "opening"
                self._client.resume(source.queue, source.epoch)

    # ── the end ───────────────────────────────────────────────────────────────

    def _advance_drain(self, now: float) -> None:
        """Intake stops, the batcher finishes, what is held returns, the world is let go."""
        if self._deadline is None or self._state == "drained":
            return
        late = now >= self._deadline
        if self._state == "shutting":
            if now >= self._deadline + SHUT:
                self._end_drain()
            return
        if not late and not self._settled_all():
            return
        self._custody.due(math.inf)
        self._flush()
        if self._custody.moving and not late:
            return
        self._left = self._custody.give_back() or int(not self._batcher_drained)
        self._flush()
        if self._state == "open":
            self._state = "shutting"
            self._client.shut()
        else:
            self._end_drain()

    def _settled_all(self) -> bool:
        """Whether nothing more comes and all that came has its verdict."""
        if any(source.state != "stopped" for source in self._sources.values()):
            return False
        last_chunk = self._custody.outbox.next - 1
        if self._batcher and not self._batcher_drained:
            if self._asked != last_chunk:
                self._asked = last_chunk
                self._context.send(self._batcher, Drain(0.0, last_chunk))
            return False
        self._batcher_drained = True
        return not self._custody.open

    def _end_drain(self) -> None:
        self._state = "drained"
        self._client.close()
        self._context.send(self._supervisor, Drained(self._left))

    def _report(self, now: float) -> str:
        custody = self._custody
        oldest = custody.outbox.oldest()
        age = 0.0 if oldest is None else now - oldest
        routes = {source.route.name for source in self._sources.values()}
        reasons = [source.reason for source in self._sources.values() if source.reason]
        report = {
            "state": self._state,
            "reason": self._reason or "; ".join(reasons),
            "stale": custody.stale,
            "routes": [
                custody.counts.get(route, Counts()).report(route, custody.in_flight(route), age)
                for route in sorted(routes)
            ],
        }
        return json.dumps(report)
