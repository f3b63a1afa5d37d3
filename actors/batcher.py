"""The batcher: groups deliveries into bulks, and answers for a handler that died.

It knows every chunk until the connection confirms its settlement, and every bulk
until its handler answers. What gets lost on the way is asked for again by `Held`.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from functools import partial

from actors.alarm import Alarm
from actors.context import Context
from actors.errors import HandlerCrashed
from actors.kinds import order_key
from actors.logic.batching import Batching
from actors.logic.bulk import Chunk, Draft
from actors.logic.failure import Verdict
from actors.logic.line import Line
from actors.logic.ordering import Ordering
from actors.logic.sequence import Sequence
from actors.logic.settling import Settling
from actors.plan import RoutePlan, UnitPlan
from actors.protocol import (
    Bulk,
    Configure,
    Deliveries,
    Drain,
    Drained,
    HandlerLost,
    Held,
    Neighbours,
    Range,
    Ready,
    Reminder,
    ReportStatus,
    Retired,
    Settlement,
    Single,
    Status,
)

#: Seconds between two rounds of `Held`, while anything is outstanding.
ROUND = 2.0
#: Seconds that a bulk waits for more at the most where the system runs until nothing is left.
BURST_FLUSH = 0.25
#: Dead handlers of which it is remembered whether they held a bulk.
REMEMBERED = 256

_COMES_BACK = (Verdict.REQUEUE, Verdict.RETRY)


class Batcher:
    """Between one connection and the handlers of its routes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._alarm = Alarm(context)
        self._supervisor = ""
        self._connection = ""
        self._introduced = 0  # by the number of the introduction
        self._incarnation = 0  # of the connection
        self._chunks: Sequence[Deliveries] = Sequence()
        self._epochs: dict[str, int] = {}  # the live one, by queue
        self._routes: dict[str, RoutePlan] = {}
        self._lines: dict[str, Line] = {}  # by route
        self._lines_by_queue: dict[str, Line] = {}
        self._settling = Settling({}, broker_copies=False, random=context.random)
        self._working: dict[str, str] = {}  # route, by handler
        self._lost: set[str] = set()  # handlers that may still be introduced as living
        self._deaths: dict[str, str] = {}  # "busy" or "idle", by handler
        self._condemned: dict[str, int] = {}  # the overdue bulk, by handler
        self._next_bulk = 1
        self._last_chunk: int | None = None  # of a drain
        self._stale = 0
        self._next_round = 0.0

    def on(self, message: object, sender: str, now: float) -> None:
        error = ""
        match message:
            case Deliveries():
                self._deliveries(message, sender, now)
            case Settlement():
                error = message.error
                self._settlement(message, sender, now)
            case Held() if sender == self._connection:
                self._held_by_connection(message, now)
            case Held():
                self._held_by_handler(message, sender, now)
            case Reminder():
                self._alarm.rang(message)
            case HandlerLost():
                self._lost.add(message.handler)
                self._handler_lost(message.handler, message.cause, now)
            case Neighbours():
                self._neighbours(message, now)
            case Drain():
                self._drain(message.chunk, now)
            case ReportStatus():
                self._context.send(sender, Status(message.round, self._report()))
            case Configure():
                self._configure(message, sender)
            case _:
                raise TypeError(f"a batcher has no use for {message}")
        self._hand_out(now)
        self._tell(self._settling.take(), error)
        self._watch(now)

    # ── who is who ────────────────────────────────────────────────────────────

    def _configure(self, message: Configure, sender: str) -> None:
        plan = message.plan
        assert isinstance(plan, UnitPlan)
        if not self._lines:
            for route in plan.routes:
                batching = open_bulks(route, plan)
                line = Line(
                    batching,
                    route.in_flight,
                    route.timeout,
                    route.max_crashes,
                    timeout_is_final=route.on_timeout.verdict not in _COMES_BACK,
                )
                self._routes[route.name], self._lines[route.name] = route, line
                self._lines_by_queue.update(dict.fromkeys(route.queues, line))
            self._settling = Settling(
                self._lines_by_queue,
                broker_copies=plan.kind == "amqp",
                random=self._context.random,
            )
        self._supervisor = sender
        self._context.send(sender, Ready("batcher", self._context.pid))

    def _neighbours(self, message: Neighbours, now: float) -> None:
        if message.number <= self._introduced:
            return
        self._introduced = message.number
        self._connection = message.connection
        # It may have been on its way when one of these died.
        self._lost &= {name for name, _ in message.handlers}
        present = {name: route for name, route in message.handlers if name not in self._lost}
        for handler in [name for name in self._working if name not in present]:
            self._handler_lost(handler, "gone", now)
        for handler, route in present.items():
            self._working[handler] = route
            self._lines[route].hire(handler, retiring=handler in message.retiring)

    # ── deliveries in, bulks out ──────────────────────────────────────────────

    def _deliveries(self, message: Deliveries, sender: str, now: float) -> None:
        if self._connection and sender != self._connection:
            self._stale += 1
            return
        self._settling.register.confirm((), below=message.open_from)
        self._enter(self._chunks.put(message.number, message), now)

    def _enter(self, arrived: Iterable[Deliveries], now: float) -> None:
        for message in arrived:
            queue, line = message.queue, self._lines_by_queue[message.queue]
            self._incarnation = message.incarnation
            if message.epoch > self._epochs.get(queue, 0):
                self._epochs[queue] = message.epoch
                line.drop(queue, message.epoch)
                self._settling.register.drop(queue, message.epoch)
            chunk = Chunk(
                message.number,
                queue,
                message.epoch,
                message.first,
                message.blob,
                array("I", message.ends),
                dict(message.flagged),
            )
            self._settling.enter(chunk)
            line.batching.add(chunk, now)
            (line.spent.add if message.spent else line.spent.discard)(queue)

    def _hand_out(self, now: float) -> None:
        flush = self._last_chunk is not None and self._chunks.next > self._last_chunk
        for route, line in self._lines.items():
            while given := line.hand_out(now, flush):
                for handler, drafts in given.items():
                    numbered = list(enumerate(drafts, self._next_bulk))
                    self._next_bulk += len(drafts)
                    line.handlers[handler].give(numbered, now)
                    self._send(handler, route, numbered)
        if flush and self._connection and not self._settling.register.open:
            self._context.send(self._connection, Drained())

    def _send(self, handler: str, route: str, numbered: list[tuple[int, Draft]]) -> None:
        drafts = [draft for _, draft in numbered]
        flagged: list[tuple[int, int]] = []
        offset = 0
        for draft in drafts:
            flagged += draft.flagged(offset)
            offset += draft.size
        bulk = Bulk(
            numbered[0][0],
            min(self._lines[route].handlers[handler].bulks),
            route,
            tuple(part.piece() for draft in drafts for part in draft.parts),
            tuple(draft.size for draft in drafts),
            tuple(flagged),
        )
        self._context.send(handler, bulk)

    # ── answers in, settlements out ───────────────────────────────────────────

    def _settlement(self, message: Settlement, sender: str, now: float) -> None:
        route = self._working.get(sender)
        if not route:
            self._stale += 1
        elif self._lines[route].answer(sender, message.numbers, now):  # or it was said before
            self._stale += self._settling.settle(message.ranges, message.singles, now)

    def _tell(self, entries: list[Range | Single], error: str = "") -> None:
        if entries:
            ranges = tuple(entry for entry in entries if isinstance(entry, Range))
            singles = tuple(entry for entry in entries if isinstance(entry, Single))
            settlement = Settlement(self._incarnation, (), ranges, singles, error)
            self._context.send(self._connection, settlement)

    def _handler_lost(self, handler: str, cause: str, now: float) -> None:
        route = self._working.pop(handler, "")
        overdue = self._condemned.pop(handler, 0)
        if route:
            plan, losses = self._routes[route], self._lines[route].lose(handler, overdue, now)
            late = f"the bulk took longer than TIMEOUT, {plan.timeout:g} s"
            died = f"alone in a process that died, {plan.max_crashes} times: {cause}"
            condemn = self._settling.condemn
            condemn(losses.timed_out, plan.on_timeout, TimeoutError, late, now)
            condemn(losses.crashed, plan.on_crash, HandlerCrashed, died, now)
            self._deaths[handler] = "busy" if losses.bulks else "idle"
            while len(self._deaths) > REMEMBERED:
                del self._deaths[next(iter(self._deaths))]
        # The supervisor charges a death to the bulk in hand, or else to the handler; it may
        # ask again.
        held = self._deaths.get(handler, "idle")
        self._context.send(self._supervisor, HandlerLost(handler, held))

    def _drain(self, last_chunk: int, now: float) -> None:
        if self._last_chunk is None:
            self._settling.give_back(now)
        self._last_chunk = last_chunk

    # ── what may have got lost ────────────────────────────────────────────────

    def _held_by_connection(self, message: Held, now: float) -> None:
        register = self._settling.register
        self._enter(self._chunks.give_up(message.numbers, message.next), now)
        register.confirm(message.numbers, message.next)
        self._tell(register.repeat(message.numbers))
        known = tuple(register.numbers + self._chunks.early())
        self._context.send(self._connection, Held(known, self._chunks.next))

    def _held_by_handler(self, message: Held, sender: str, now: float) -> None:
        if route := self._working.get(sender):
            credit = self._lines[route].handlers[sender]
            credit.received(message.numbers)
            for handed in credit.unknown(set(message.numbers), before=now - ROUND):
                credit.again(handed, now)
                self._send(sender, route, [(handed.number, handed.draft)])

    def _watch(self, now: float) -> None:
        """Have handlers killed that hang, ask the others what they hold, and look again
        when something is due."""
        working = any(line.in_hand for line in self._lines.values())
        round_is_due = working and now >= self._next_round
        for line in self._lines.values():
            for handler, handed in line.overdue(now):
                if round_is_due or handler not in self._condemned:
                    self._condemned[handler] = handed.number
                    self._context.send(self._supervisor, HandlerLost(handler, "overdue"))
            for handler, credit in line.handlers.items():
                if round_is_due and credit.bulks:
                    self._context.send(handler, Held(tuple(credit.bulks), self._next_bulk))
            for handler in line.retired():
                self._context.send(self._supervisor, Retired(handler))
        if round_is_due:
            self._next_round = now + ROUND
        times = [line.due(now) for line in self._lines.values()]
        self._alarm.set([*times, self._next_round if working else None], now)

    def _report(self) -> str:
        bulks = sum(line.in_hand for line in self._lines.values())
        return json.dumps({"bulks": bulks, "stale": self._stale})


def open_bulks(route: RoutePlan, plan: UnitPlan) -> Batching | Ordering:
    """The grouping that a route asks for."""
    interval = route.bulk_flush_interval
    if plan.burst:
        interval = min(interval, BURST_FLUSH)
    size, most, alone = route.bulk_size, route.bulk_bytes, route.last_alone
    if route.order_by:
        key_of = partial(order_key, plan.kind, order_by=route.order_by)
        return Ordering(size, most, interval, alone, key_of)
    return Batching(size, most, interval, alone)
