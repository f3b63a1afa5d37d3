"""The connection: owns one connection to the world and answers for what it handed on.

It never sleeps and never runs user code. When it loses its peer it says so and waits
for its supervisor's `Connect`; a single queue it reopens by itself. `Intake` is what it
fetches, `Traffic` what passes through it.
"""

from __future__ import annotations

import json
from enum import Enum, auto

from actors.api.connector import connector_of
from actors.log import own_logger
from actors.logic.counts import Counts
from actors.logic.drain import TABLE, Deadline, Event, Phase
from actors.logic.state_machine import Machine
from actors.plan.plan import PipelinePlan
from actors.roles.alarm import Alarm
from actors.roles.context import Context
from actors.roles.intake import Intake
from actors.roles.port import (
    Buried,
    ConnectionClient,
    Consuming,
    Depth,
    Fetched,
    Lost,
    Moved,
    MoveFailed,
    Opened,
    QueueLost,
    Stopped,
)
from actors.roles.protocol import (
    Configure,
    Connect,
    ConnectionLost,
    Drain,
    Drained,
    Held,
    Neighbours,
    NotReady,
    Ready,
    Reminder,
    ReportStatus,
    Settlement,
    Status,
)
from actors.roles.traffic import ROUND, SILENCE, Traffic

log = own_logger("actors.connection")

#: Seconds without anything new after which a burst may be over.
QUIET = 1.0
#: Seconds between two measures of what waits in a spool, while somebody asks for the report.
MEASURED = 10.0
#: Seconds after a drain's deadline in which the peer may still say goodbye.
GOODBYE = 1.0

CUT_OFF = f"its batcher has not answered for {SILENCE:g} s: frames between them are lost"


class Link(Enum):
    """The connection to the peer."""

    CLOSED = auto()
    OPENING = auto()
    OPEN = auto()


class Connection:
    """One connection to a broker's vhost, an event stream or a spool."""

    _plan: PipelinePlan
    _client: ConnectionClient
    _intake: Intake
    _traffic: Traffic

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
                self._intake.came(message.queue)
                self._traffic.fetched(message, now)
            case Settlement():
                self._traffic.settlement(message, now)
                self._intake.learn(message.reports, now)
            case Held() if sender == self._traffic.batcher:
                self._traffic.held(message, now)
            case Held():
                pass  # of a batcher that is dead, and counted otherwise
            case Moved() | MoveFailed():
                before = self._traffic.trouble
                self._traffic.moved(message, now)
                if bool(before) != bool(self._traffic.trouble) and self._consumes:
                    self._tell_state()
            case Buried():
                self._traffic.buried(message)
            case Reminder(what="move", generation=token):
                self._traffic.move_again(token, now)
            case Reminder():
                self._alarm.rang(message)
            case Consuming() | QueueLost() | Stopped() | Depth():
                self._hear_queue(message, now)
            case Opened(peer=peer):
                self._link, self._since = Link.OPEN, now
                log.info("connection %s: open, %s", self._plan.name, peer)
            case Lost():
                self._lose(message, now)
            case Neighbours() | Connect() | Drain() | Drained():
                self._hear_neighbour(message, sender, now)
            case ReportStatus():
                self._context.send(sender, Status(message.round, self._report(now)))
            case _:
                raise TypeError(f"a connection has no use for {message}")
        if self._is_open and self._traffic.batcher:
            self._intake.open(self._served, now)
        self._traffic.flush(now)
        self._advance_drain(now)
        self._intake.bound_memory()
        self._watch(now)

    # ── the supervisor's and the batcher's word ───────────────────────────────

    def _configure(self, message: Configure, sender: str) -> None:
        is_new, self._supervisor = not self._supervisor, sender
        if is_new:
            assert isinstance(message.plan, PipelinePlan)
            self._plan = message.plan
            self._client = self._context.client(self._plan.kind, self._plan)
            self._traffic = Traffic(self._plan.name, self._context, self._client)
            self._intake = Intake(self._plan, self._context, self._client, self._traffic)
        self._tell_state()

    def _hear_neighbour(
        self, message: Neighbours | Connect | Drain | Drained, sender: str, now: float
    ) -> None:
        match message:
            case Neighbours() if message.number > self._introduced:
                self._introduced = message.number
                pools = self._plan.pools
                self._served = {r.name for _, pool in message.handlers for r in pools[pool]}
                self._intake.serve(message.waiting)
                self._traffic.meet(message.batcher)
                if self._link is Link.CLOSED and self._lost.cause != "connecting":
                    self._tell_lost(lived=0.0)  # in case the first word got lost
            case Connect() if self._link is Link.CLOSED and self._deadline is None:
                self._link = Link.OPENING
                self._client.open()
            case Drained() if sender == self._traffic.batcher:
                self._batcher_drained = self._deadline is not None
            case Drain() if self._drain.state is Phase.CLOSED:
                self._context.send(sender, Drained(self._left))
            case Drain() if self._deadline is None:
                self._drain.on_event(Event.DRAIN)
                self._deadline = Deadline(now + message.seconds)
                self._undecided_before = self._traffic.custody.undecided
                self._traffic.draining = True
                if self._link is Link.OPENING:
                    self._client.close()
                    self._link = Link.CLOSED
                self._intake.end()

    # ── the world's word ──────────────────────────────────────────────────────

    @property
    def _is_open(self) -> bool:
        """Whether anything may be asked of the peer."""
        leaves = self._drain.state in (Phase.SHUTTING, Phase.CLOSED)
        return self._link is Link.OPEN and not leaves

    @property
    def _consumes(self) -> bool:
        return self._is_open and self._intake.consumes

    def _hear_queue(self, event: Consuming | QueueLost | Stopped | Depth, now: float) -> None:
        delay = self._intake.hear(event, now)
        if isinstance(event, QueueLost):
            self._tell_not_ready(f"queue {event.queue}: {event.cause}", event.fault, delay)
        elif isinstance(event, Consuming) and self._consumes:
            self._tell_state()

    def _lose(self, event: Lost, now: float) -> None:
        lived = now - self._since if self._is_open else 0.0
        self._link, self._lost = Link.CLOSED, event
        self._intake.lose_all()
        if self._drain.state is Phase.SHUTTING:
            self._end_drain()
        else:
            self._tell_lost(lived)

    def _tell_lost(self, lived: float) -> None:
        lost = ConnectionLost(self._lost.cause, self._lost.fault, lived)
        self._context.send(self._supervisor, lost)

    def _tell_state(self) -> None:
        if self._consumes and not self._cut_off and not self._traffic.trouble:
            self._context.send(self._supervisor, Ready("connection", self._context.pid))
        else:
            trouble = self._intake.trouble if self._is_open else ""
            if self._consumes:
                trouble = CUT_OFF if self._cut_off else self._traffic.trouble
            self._tell_not_ready(trouble or self._lost.cause)

    def _tell_not_ready(self, cause: str, fault: str = "", delay: float = 0.0) -> None:
        not_ready = NotReady("connection", self._context.pid, cause, fault, delay)
        self._context.send(self._supervisor, not_ready)

    # ── what is due ───────────────────────────────────────────────────────────

    def _watch(self, now: float) -> None:
        """Tell the batcher what is open, and look again when something is due."""
        custody = self._traffic.custody
        times: list[float | None] = [*self._intake.due(), custody.next_due()]
        if custody.unsettled or self._cut_off or self._deadline is not None:
            if now >= self._next_round:
                self._next_round, self._told_batcher = now + ROUND, -1
                self._traffic.ask_what_is_held(now, self._intake.recall(now))
                self._look_for_the_batcher(now)
            times.append(self._next_round)
        if self._deadline is not None:
            times += [self._deadline.at, self._deadline.at + GOODBYE]
        elif self._plan.burst:
            times.append(self._look_for_the_end(now))
        self._alarm.set(times, now)

    def _look_for_the_batcher(self, now: float) -> None:
        """Without a way to it, by want of descriptors or by a cut, nothing is worked on."""
        was_cut_off, self._cut_off = self._cut_off, self._traffic.cut_off(now)
        if self._cut_off and not was_cut_off:
            log.warning("connection %s: %s", self._plan.name, CUT_OFF)
        if (self._cut_off or was_cut_off) and self._consumes:
            self._tell_state()

    def _look_for_the_end(self, now: float) -> float:
        """In a burst: whether the queues are empty; returns when to look again."""
        quiet_at = max(self._next_look, self._traffic.last_came + QUIET)
        if not self._consumes or self._traffic.custody.unsettled or now < quiet_at:
            return quiet_at
        self._next_look = now + QUIET / 4
        if self._intake.empty:
            self._context.send(self._supervisor, Drained())
        self._intake.measure()
        return self._next_look

    # ── the end ───────────────────────────────────────────────────────────────

    def _advance_drain(self, now: float) -> None:
        """Intake stops, the batcher finishes, what is held returns, the world is let go."""
        if self._deadline is None:
            return
        drain, custody = self._drain, self._traffic.custody
        if drain.state is Phase.SHUTTING and now >= self._deadline.at + GOODBYE:
            self._end_drain()
        if drain.allows(Event.DEADLINE) and self._deadline.has_passed(now):
            self._traffic.release(now)
            drain.on_event(Event.DEADLINE)
            self._shut(now)
        if drain.state is Phase.CANCELLED and self._intake.stopped:
            drain.on_event(Event.ALL_STOPPED)
        if drain.state is Phase.FLUSHED and self._all_is_decided():
            drain.on_event(Event.ALL_DECIDED)
        if drain.state is Phase.RELEASED:
            self._traffic.release(now)
            if not custody.moving:
                drain.on_event(Event.ALL_COPIED)
                self._shut(now)

    def _shut(self, now: float) -> None:
        """Gives back what is left, and says goodbye."""
        custody = self._traffic.custody
        # A copy that is still under way: its original comes again, too.
        gone = custody.undecided - self._undecided_before  # with a connection or a queue lost
        left = gone + custody.give_back() + custody.unsettled
        self._left = left or int(not self._intake.stopped)
        self._traffic.flush(now)
        if self._link is Link.OPEN:
            self._client.shut()
        else:
            self._end_drain()

    def _all_is_decided(self) -> bool:
        """Whether all that came has its outcome, once nothing more comes."""
        traffic = self._traffic
        last_chunk = traffic.custody.outbox.next - 1
        if not traffic.batcher:
            self._batcher_drained = True
        elif not self._batcher_drained and self._told_batcher != last_chunk:
            self._told_batcher = last_chunk
            self._context.send(traffic.batcher, Drain(0.0, last_chunk))
        return self._batcher_drained and not traffic.custody.open

    def _end_drain(self) -> None:
        self._drain.on_event(Event.WRITTEN)
        self._link = Link.CLOSED
        self._client.close()
        self._context.send(self._supervisor, Drained(self._left))

    def _report(self, now: float) -> str:
        custody = self._traffic.custody
        oldest = custody.outbox.oldest()
        age = 0.0 if oldest is None else now - oldest
        if (
            connector_of(self._plan.kind).counts_waiting
            and self._is_open
            and now >= self._next_measure
        ):
            self._next_measure = now + MEASURED
            self._intake.measure()  # what it finds is in the next report
        waiting = self._intake.waiting
        counts = [(r, custody.counts.get(r, Counts())) for r in self._intake.routes]
        routes = [c.report(r, custody.in_flight(r), age, waiting.get(r)) for r, c in counts]
        return json.dumps({"stale": custody.stale, "routes": routes})
