"""The connection: owns one connection to the world and answers for what it handed on.

It never sleeps and never runs user code. When it loses its peer it says so and waits
for its supervisor's `Connect`; a single queue it reopens by itself. `Consumers` is what it
fetches, `Settler` what passes through it.
"""

from __future__ import annotations

import json
from enum import Enum, auto

from actors.api.connector import connector_of
from actors.log import own_logger
from actors.logic.settlement.unacked import Counts
from actors.logic.state_machine import Machine
from actors.logic.supervision.drain import TABLE, Deadline, Event, Phase
from actors.plan.plan import PipelinePlan
from actors.roles.alarm import Alarm
from actors.roles.consumers import Consumers
from actors.roles.context import Context
from actors.roles.port import (
    CancelRequested,
    ConnectionClient,
    Consuming,
    DeadLettered,
    Depth,
    Fetched,
    Lost,
    Opened,
    QueueLost,
    Republished,
    RepublishFailed,
    Stopped,
)
from actors.roles.protocol import (
    Began,
    Configure,
    Connect,
    ConnectionLost,
    Drain,
    Drained,
    Neighbours,
    NotReady,
    Outstanding,
    Ready,
    Reminder,
    ReportStatus,
    Settlement,
    Status,
)
from actors.roles.settler import ROUND_S, SILENCE_S, Settler

log = own_logger("actors.connection")

#: Seconds without anything new after which a burst may be over.
QUIET_S = 1.0
#: Seconds between two measures of what waits in a spool, while somebody asks for the report.
MEASURE_INTERVAL_S = 10.0
#: Seconds after a drain's deadline in which the peer may still say goodbye.
GOODBYE_S = 1.0

CUT_OFF = f"its batcher has not answered for {SILENCE_S:g} s: frames between them are lost"


class Link(Enum):
    """The connection to the peer."""

    CLOSED = auto()
    OPENING = auto()
    OPEN = auto()


class Connection:
    """One connection to a broker's vhost, an event stream or a spool."""

    _plan: PipelinePlan
    _client: ConnectionClient
    _consumers: Consumers
    _settler: Settler

    def __init__(self, context: Context) -> None:
        self._context = context
        self._alarm = Alarm(context)
        self._supervisor = ""
        self._link = Link.CLOSED
        self._lost = Lost("connecting")
        self._since = 0.0  # open
        self._served: set[str] = set()  # routes that have a handler
        self._introduced = 0  # by the number of the introduction
        self._next_look = 0.0  # whether a burst is over
        self._drain = Machine(TABLE)
        self._deadline: Deadline | None = None  # of the drain
        self._told_batcher = -1  # of the end, by the number of the last chunk
        self._batcher_drained = False
        self._left = 0  # deliveries that a drain had to leave
        self._undecided_before = 0  # that had ended without an outcome when a drain began
        self._next_round = 0.0
        self._next_measure = 0.0  # of a spool's queues
        self._cut_off = False  # from its batcher

    def on(self, message: object, sender: str, now: float) -> None:
        if not (self._supervisor or isinstance(message, Configure)):
            return  # it overtook the first word; what matters is said again
        match message:
            case Configure():
                self._configure(message, sender)
            case Fetched():
                self._consumers.came(message.queue)
                self._settler.fetched(message, now)
            case Settlement():
                self._settler.settlement(message, now)
                self._consumers.learn(message.reports, now)
            case Outstanding() if sender == self._settler.batcher:
                self._settler.held(message, now)
            case Outstanding():
                pass  # of a batcher that is dead, and counted otherwise
            case Republished() | RepublishFailed():
                before = self._settler.trouble
                self._settler.on_republished(message, now)
                if bool(before) != bool(self._settler.trouble) and self._consumes:
                    self._report_state()
            case Began():
                for queue in self._settler.began(message):
                    self._consumers.work_long(queue, now)
            case CancelRequested():
                if self._settler.batcher:
                    self._settler.cancel(message)
            case DeadLettered():
                self._settler.dead_lettered(message)
            case Reminder(what="republish", generation=token):
                self._settler.republish_again(token, now)
            case Reminder():
                self._alarm.rang(message)
            case Consuming() | QueueLost() | Stopped() | Depth():
                self._on_queue_event(message, now)
            case Opened(peer=peer):
                self._link, self._since = Link.OPEN, now
                log.info("connection %s: open, %s", self._plan.name, peer)
            case Lost():
                self._lose(message, now)
            case Neighbours() | Connect() | Drain() | Drained():
                self._on_neighbour(message, sender, now)
            case ReportStatus():
                self._context.send(sender, Status(message.round, self._report(now)))
            case _:
                raise TypeError(f"a connection has no use for {message}")
        if self._is_open and self._settler.batcher:
            self._consumers.open(self._served, now)
        self._settler.flush(now)
        self._advance_drain(now)
        self._consumers.bound_memory()
        self._watch(now)

    # ── the supervisor's and the batcher's word ───────────────────────────────

    def _configure(self, message: Configure, sender: str) -> None:
        is_new, self._supervisor = not self._supervisor, sender
        if is_new:
            assert isinstance(message.plan, PipelinePlan)
            self._plan = message.plan
            self._client = self._context.client(self._plan.kind, self._plan)
            self._settler = Settler(self._plan.name, self._context, self._client)
            self._consumers = Consumers(self._plan, self._context, self._client, self._settler)
        self._report_state()

    def _on_neighbour(
        self, message: Neighbours | Connect | Drain | Drained, sender: str, now: float
    ) -> None:
        match message:
            case Neighbours() if message.number > self._introduced:
                self._introduced = message.number
                pools = self._plan.pools
                self._served = {r.name for _, pool in message.handlers for r in pools[pool]}
                self._consumers.serve(message.waiting)
                self._settler.meet(message.batcher)
                if self._link is Link.CLOSED and self._lost.cause != "connecting":
                    self._report_lost(lived=0.0)  # in case the first word got lost
            case Connect() if self._link is Link.CLOSED and self._deadline is None:
                self._link = Link.OPENING
                self._client.open()
            case Drained() if sender == self._settler.batcher:
                self._batcher_drained = self._deadline is not None
            case Drain() if self._drain.state is Phase.CLOSED:
                self._context.send(sender, Drained(self._left))
            case Drain() if self._deadline is None:
                self._drain.on_event(Event.DRAIN)
                self._deadline = Deadline(now + message.seconds)
                self._undecided_before = self._settler.unacked.undecided
                self._settler.draining = True
                if self._link is Link.OPENING:
                    self._client.close()
                    self._link = Link.CLOSED
                self._consumers.end()

    # ── the world's word ──────────────────────────────────────────────────────

    @property
    def _is_open(self) -> bool:
        """Whether anything may be asked of the peer."""
        leaves = self._drain.state in (Phase.SHUTTING, Phase.CLOSED)
        return self._link is Link.OPEN and not leaves

    @property
    def _consumes(self) -> bool:
        return self._is_open and self._consumers.consumes

    def _on_queue_event(self, event: Consuming | QueueLost | Stopped | Depth, now: float) -> None:
        delay = self._consumers.on_event(event, now)
        if isinstance(event, QueueLost):
            self._report_not_ready(f"queue {event.queue}: {event.cause}", event.fault, delay)
        elif isinstance(event, Consuming) and self._consumes:
            self._report_state()

    def _lose(self, event: Lost, now: float) -> None:
        lived = now - self._since if self._is_open else 0.0
        self._link, self._lost = Link.CLOSED, event
        self._consumers.lose_all()
        if self._drain.state is Phase.SHUTTING:
            self._end_drain()
        else:
            self._report_lost(lived)

    def _report_lost(self, lived: float) -> None:
        lost = ConnectionLost(self._lost.cause, self._lost.fault, lived)
        self._context.send(self._supervisor, lost)

    def _report_state(self) -> None:
        if self._consumes and not self._cut_off and not self._settler.trouble:
            self._context.send(self._supervisor, Ready("connection", self._context.pid))
        else:
            trouble = self._consumers.trouble if self._is_open else ""
            if self._consumes:
                trouble = CUT_OFF if self._cut_off else self._settler.trouble
            self._report_not_ready(trouble or self._lost.cause)

    def _report_not_ready(self, cause: str, fault: str = "", delay: float = 0.0) -> None:
        not_ready = NotReady("connection", self._context.pid, cause, fault, delay)
        self._context.send(self._supervisor, not_ready)

    # ── what is due ───────────────────────────────────────────────────────────

    def _watch(self, now: float) -> None:
        """Tell the batcher what is open, and look again when something is due."""
        unacked = self._settler.unacked
        times: list[float | None] = [*self._consumers.due(), unacked.next_due()]
        if unacked.unsettled or self._cut_off or self._deadline is not None:
            if now >= self._next_round:
                self._next_round, self._told_batcher = now + ROUND_S, -1
                self._settler.ask_what_is_held(now, self._consumers.recall(now))
                self._check_batcher(now)
            times.append(self._next_round)
        if self._deadline is not None:
            times += [self._deadline.at, self._deadline.at + GOODBYE_S]
        elif self._plan.burst:
            times.append(self._check_burst(now))
        self._alarm.set(times, now)

    def _check_batcher(self, now: float) -> None:
        """Without a way to it, by want of descriptors or by a cut, nothing is worked on."""
        was_cut_off, self._cut_off = self._cut_off, self._settler.cut_off(now)
        if self._cut_off and not was_cut_off:
            log.warning("connection %s: %s", self._plan.name, CUT_OFF)
        if (self._cut_off or was_cut_off) and self._consumes:
            self._report_state()

    def _check_burst(self, now: float) -> float:
        """In a burst: whether the queues are empty; returns when to look again."""
        quiet_at = max(self._next_look, self._settler.last_came + QUIET_S)
        if not self._consumes or self._settler.unacked.unsettled or now < quiet_at:
            return quiet_at
        self._next_look = now + QUIET_S / 4
        if self._consumers.empty:
            self._context.send(self._supervisor, Drained())
        self._consumers.measure()
        return self._next_look

    # ── the end ───────────────────────────────────────────────────────────────

    def _advance_drain(self, now: float) -> None:
        """Consumers stops, the batcher finishes, what is held returns, the world is let go."""
        if self._deadline is None:
            return
        drain, unacked = self._drain, self._settler.unacked
        if drain.state is Phase.SHUTTING and now >= self._deadline.at + GOODBYE_S:
            self._end_drain()
        if drain.allows(Event.DEADLINE) and self._deadline.has_passed(now):
            self._settler.release(now)
            drain.on_event(Event.DEADLINE)
            self._shut(now)
        if drain.state is Phase.CANCELLED and self._consumers.stopped:
            drain.on_event(Event.ALL_STOPPED)
        if drain.state is Phase.FLUSHED and self._all_is_decided():
            drain.on_event(Event.ALL_DECIDED)
        if drain.state is Phase.RELEASED:
            self._settler.release(now)
            if not unacked.is_republishing:
                drain.on_event(Event.ALL_COPIED)
                self._shut(now)

    def _shut(self, now: float) -> None:
        """Gives back what is left, and says goodbye."""
        unacked = self._settler.unacked
        # A copy that is still under way: its original comes again, too.
        gone = unacked.undecided - self._undecided_before  # with a connection or a queue lost
        left = gone + unacked.give_back() + unacked.unsettled
        self._left = left or int(not self._consumers.stopped)
        self._settler.flush(now)
        if self._link is Link.OPEN:
            self._client.shut()
        else:
            self._end_drain()

    def _all_is_decided(self) -> bool:
        """Whether all that came has its outcome, once nothing more comes."""
        settler = self._settler
        last_chunk = settler.unacked.sent_chunks.next - 1
        if not settler.batcher:
            self._batcher_drained = True
        elif not self._batcher_drained and self._told_batcher != last_chunk:
            self._told_batcher = last_chunk
            self._context.send(settler.batcher, Drain(0.0, last_chunk))
        return self._batcher_drained and not settler.unacked.open

    def _end_drain(self) -> None:
        self._drain.on_event(Event.WRITTEN)
        self._link = Link.CLOSED
        self._client.close()
        self._context.send(self._supervisor, Drained(self._left))

    def _report(self, now: float) -> str:
        unacked = self._settler.unacked
        oldest = unacked.sent_chunks.oldest()
        age = 0.0 if oldest is None else now - oldest
        if (
            connector_of(self._plan.kind).counts_waiting
            and self._is_open
            and now >= self._next_measure
        ):
            self._next_measure = now + MEASURE_INTERVAL_S
            self._consumers.measure()  # what it finds is in the next report
        waiting, jobs = self._consumers.waiting, self._consumers.jobs
        counts = [(r, unacked.counts.get(r, Counts())) for r in self._consumers.routes]
        routes = [c.report(r, unacked.in_flight(r), age, waiting.get(r)) for r, c in counts]
        for route in routes:
            if route["name"] in jobs:
                route["jobs"] = jobs[route["name"]]
        lost = self._settler.replies_lost
        return json.dumps({"stale": unacked.stale, "replies_lost": lost, "routes": routes})
