"""The batcher: groups deliveries into bulks, and answers for a handler that died.

It knows every chunk until the connection confirms its settlement, and every bulk
until its handler answers. What gets lost on the way is asked for again by `Outstanding`.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable
from typing import NamedTuple

from actors.api.connector import connector_of
from actors.errors import DeliveryLimit, HandlerCrashed
from actors.logic.bulks.bulk import Chunk, Handed, pieces
from actors.logic.bulks.deaths import Deaths, identity
from actors.logic.bulks.handler_pool import HandlerPool, HandOut
from actors.logic.bulks.route_queue import NO_BULK, Losses, RouteQueue
from actors.logic.consuming.limits import endangered, tighter
from actors.logic.messages.entry import TRANSFER_MAX
from actors.logic.settlement.failure import DEAD_LETTER, Policy, class_name
from actors.logic.settlement.settling import Sequence, Settling
from actors.logic.settlement.unacked import Old
from actors.plan.plan import PipelinePlan, RoutePlan
from actors.roles.alarm import Alarm
from actors.roles.context import Context, Journal
from actors.roles.handler_pools import handler_pools_of
from actors.roles.protocol import (
    Began,
    Bulk,
    Cancel,
    Configure,
    Deliveries,
    Drain,
    Drained,
    HandlerLost,
    Neighbours,
    Outstanding,
    Range,
    Ready,
    Recalled,
    Received,
    Reminder,
    Report,
    ReportStatus,
    Retired,
    Settlement,
    Single,
    Status,
)

#: Seconds between two rounds of `Outstanding`, while anything is outstanding.
ROUND_S = 2.0
#: Seconds for which what a killed worker had in hand runs alone, and all else waits for it.
QUARANTINE_S = 60.0
#: Seconds in which a handler is to hear that a job is to be stopped.
STOP_S = 0.5
#: Dead handlers of which it is remembered whether they held a bulk.
DEATHS_MAX = 256


class SettleAs(NamedTuple):
    """The outcome of a message for what befell it outside its handler."""

    policy: Policy
    error: type[Exception]
    reason: str


class Batcher:
    """The actor between one connection and the handlers of its routes."""

    _journal: Journal

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
        self._route_queues: dict[str, RouteQueue] = {}  # by queue
        self._handler_pools: dict[str, HandlerPool] = {}  # by pool
        self._settling = Settling({}, broker_copies=False, random=context.random)
        self._pool_of: dict[str, HandlerPool] = {}  # by handler
        self._lost: set[str] = set()  # handlers that may still be introduced as living
        self._deaths: dict[str, str] = {}  # "busy" or "idle", by handler
        self._killed_for: dict[str, int] = {}  # the overdue bulk, by handler
        self._waiting: set[str] = set()  # routes that nobody can work on
        self._next_bulk = 1
        self._last_chunk: int | None = None  # of a drain
        self._trials_end = 0.0  # of suspects of a killed worker, with nothing beside them
        self._stale = 0
        self._reports: list[Report] = []  # to be passed on to the connection
        self._next_round = 0.0

    def on(self, message: object, sender: str, now: float) -> None:
        match message:
            case Deliveries():
                self._deliveries(message, sender, now)
            case Settlement():
                self._settlement(message, sender, now)
            case Outstanding() if sender == self._connection:
                self._held_by_connection(message, now)
            case Outstanding():
                self._held_by_handler(message, sender, now)
            case Began():
                self._began(message, sender, now)
            case Cancel():
                self._cancel(message, now)
            case Received():
                if handler_pool := self._pool_of.get(sender):
                    handler_pool.handlers[sender].received(message.numbers)
            case Reminder():
                self._alarm.rang(message)
            case HandlerLost():
                self._lost.add(message.handler)
                self._handler_lost(message, now)
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
        for route in self._waiting:
            self._settling.hand_back(self._route_queues[self._routes[route].queues[0]], now)
        self._tell(self._settling.take())
        self._watch(now)

    # ── who is who ────────────────────────────────────────────────────────────

    def _configure(self, message: Configure, sender: str) -> None:
        plan = message.plan
        assert isinstance(plan, PipelinePlan)
        if not self._handler_pools:
            self._handler_pools = handler_pools_of(plan)
            for route in plan.routes:
                route_queue = self._handler_pools[route.pool or route.name].route_queues[route.name]
                self._routes[route.name] = route
                self._route_queues.update(dict.fromkeys(route.queues, route_queue))
            self._settling = Settling(
                self._route_queues,
                broker_copies=connector_of(plan.kind).frames,
                random=self._context.random,
            )
            self._journal = self._context.client("journal", plan)
        self._supervisor = sender
        self._context.send(sender, Ready("batcher", self._context.pid))

    def _neighbours(self, message: Neighbours, now: float) -> None:
        if message.number <= self._introduced:
            return
        self._introduced = message.number
        self._connection = message.connection
        # It may have been on its way when one of these died.
        self._lost &= {name for name, _ in message.handlers}
        present = {name: pool for name, pool in message.handlers if name not in self._lost}
        for handler in [name for name in self._pool_of if name not in present]:
            self._handler_lost(HandlerLost(handler, "gone"), now)
        for handler, pool in present.items():
            self._pool_of[handler] = self._handler_pools[pool]
            self._handler_pools[pool].add_handler(handler, retiring=handler in message.retiring)
        self._waiting = set(message.waiting)

    # ── deliveries in, bulks out ──────────────────────────────────────────────

    def _deliveries(self, message: Deliveries, sender: str, now: float) -> None:
        if self._connection and sender != self._connection:
            self._stale += 1
            return
        self._settling.chunk_table.confirm((), below=message.open_from)
        self._enter(self._chunks.put(message.number, message), now)

    def _enter(self, arrived: Iterable[Deliveries], now: float) -> None:
        for message in arrived:
            queue, route_queue = message.queue, self._route_queues[message.queue]
            self._incarnation = message.incarnation
            if message.epoch > self._epochs.get(queue, 0):
                self._epochs[queue] = message.epoch
                route_queue.drop(queue, message.epoch)
                self._settling.chunk_table.drop(queue, message.epoch)
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
            plan = self._routes[route_queue.name]
            limit = tighter(message.limit, plan.delivery_limit)
            judged = self._convicted(chunk, plan) | self._endangered(chunk, limit)
            chunk.withheld.update(judged)
            self._suspect(chunk, now)
            route_queue.add(chunk, now)
            for (
                index,
                settle_as,
            ) in judged.items():  # in the queue by now: it may have to wait there
                self._carry_out(plan, [(chunk, index)], settle_as, now)
            (route_queue.spent.add if message.spent else route_queue.spent.discard)(queue)

    def _endangered(self, chunk: Chunk, limit: int | None) -> dict[int, SettleAs]:
        """What the broker would soon delete becomes a dead letter before anybody has it."""
        return {
            index: SettleAs(
                DEAD_LETTER,
                DeliveryLimit,
                f"came back {count} times, and RabbitMQ deletes it after {limit}",
            )
            for index, count in endangered(chunk, limit).items()
        }

    def _convicted(self, chunk: Chunk, plan: RoutePlan) -> dict[int, SettleAs]:
        """What has killed too many workers is not handed out again."""
        convicted: dict[int, SettleAs] = {}
        for index in chunk.attempts if self._journal.deaths else ():
            message = identity(chunk.raw(index))
            deaths = self._journal.deaths.get(message, Deaths())
            if deaths.convicts(plan.max_crashes):
                reason = f"in hand when {deaths.all} workers were killed, alone in {deaths.alone}"
                convicted[index] = SettleAs(plan.on_crash, HandlerCrashed, reason)
                self._journal.forget(message)
        return convicted

    def _suspect(self, chunk: Chunk, now: float) -> None:
        """What the last killed worker had in hand is handed out alone."""
        for index in chunk.attempts if self._journal.suspects else ():
            if index not in chunk.withheld and identity(chunk.raw(index)) in self._journal.suspects:
                chunk.suspected.add(index)
                self._trials_end = self._trials_end or now + QUARANTINE_S

    def _hand_out(self, now: float) -> None:
        flush = self._last_chunk is not None and self._chunks.next > self._last_chunk
        trials = now < self._trials_end and self._last_chunk is None
        for route_queue in self._route_queues.values() if trials else ():
            route_queue.bring_suspects(now)
        if trials and any(route_queue.suspected for route_queue in self._route_queues.values()):
            self._try_alone(now)
        elif not (trials and self._is_alone()):
            for handler_pool in self._handler_pools.values():
                self._assign(handler_pool, handler_pool.hand_out(now, flush))
        if flush and self._connection and not self._settling.chunk_table.open:
            self._context.send(self._connection, Drained())

    def _try_alone(self, now: float) -> None:
        """Hand out the next suspect, once nobody works on anything."""
        handler_pools = self._handler_pools.values()
        if any(handler_pool.in_hand for handler_pool in handler_pools):
            return
        for handler_pool in handler_pools:
            if assigned := handler_pool.hand_out_suspect(now):
                self._assign(handler_pool, assigned)
                return

    def _is_alone(self) -> bool:
        """Whether a suspect is at work, and nothing else."""
        held = [
            h
            for handler_pool in self._handler_pools.values()
            for w in handler_pool.handlers.values()
            for h in w.bulks.values()
        ]
        return len(held) == 1 and held[0].draft.alone

    def _assign(self, handler_pool: HandlerPool, assigned: list[HandOut]) -> None:
        for handler, bulks in assigned:
            self._next_bulk = bulks[-1].number + 1
            self._send(handler_pool, handler, bulks)

    def _send(self, handler_pool: HandlerPool, handler: str, bulks: list[Handed]) -> None:
        content = tuple(pieces(part for handed in bulks for part in handed.draft.parts))
        if len(bulks) > 1 and sum(len(piece.blob) for piece in content) > TRANSFER_MAX:
            half = len(bulks) // 2
            self._send(handler_pool, handler, bulks[:half])
            self._send(handler_pool, handler, bulks[half:])
            return
        flagged: list[tuple[int, int]] = []
        sizes = tuple(handed.draft.size for handed in bulks)
        offset = 0
        for handed, size in zip(bulks, sizes, strict=True):
            flagged += handed.draft.flagged(offset)
            offset += size
        self._journal.record([handed.number for handed in bulks], content)
        bulk = Bulk(
            bulks[0].number,
            next(iter(handler_pool.handlers[handler].bulks)),  # the lowest: they are given in order
            bulks[0].route,
            content,
            sizes,
            tuple(flagged),
        )
        self._context.send(handler, bulk)

    # ── answers in, settlements out ───────────────────────────────────────────

    def _settlement(self, message: Settlement, sender: str, now: float) -> None:
        handler_pool = self._pool_of.get(sender)
        if handler_pool is None:
            self._stale += 1
        elif answered := handler_pool.answer(sender, message.numbers, now, message.reports):
            self._note_answers(answered)
            self._reports += message.reports
            raised = any(report.error for report in message.reports)
            self._stale += self._settling.settle(
                message.ranges, message.singles, now, raised=raised
            )

    def _note_answers(self, answered: list[Handed]) -> None:
        """What was answered has killed nobody."""
        self._journal.release(handed.number for handed in answered)
        for handed in answered if self._journal.deaths else ():
            if handed.draft.alone:
                for chunk, index in handed.draft.deliveries():
                    self._journal.forget(identity(chunk.raw(index)))

    # ── jobs ──────────────────────────────────────────────────────────────────

    def _began(self, message: Began, sender: str, now: float) -> None:
        """A handler says which jobs it works on, and when each has to be over."""
        if (handler_pool := self._pool_of.get(sender)) is None:
            return
        bulks = handler_pool.handlers[sender].bulks
        jobs = tuple(job for job in message.jobs if job.number in bulks)
        for job in jobs:
            handed = bulks[job.number]
            if handed.started is None:
                handed.started = now
            until = now + job.left
            handed.until = until if handed.until is None else min(handed.until, until)
        if jobs and self._connection:
            self._context.send(self._connection, Began(self._incarnation, message.worker, jobs))

        if jobs:
            self._relieve(handler_pool)

    def _relieve(self, handler_pool: HandlerPool) -> None:
        """Where every handler works on a job that takes long, what waits goes back to its queue:
        somebody elsewhere may begin it at once."""
        if not handler_pool.is_occupied:
            return
        names = [name for name, queue in handler_pool.route_queues.items() if queue.jobs]
        queues = [queue for name in names for queue in self._routes[name].queues]
        waiting = {self._epochs[queue]: sys.maxsize for queue in queues if queue in self._epochs}
        self._settling.recall(waiting)
        for handler, numbers in handler_pool.recallable(waiting):
            self._context.send(handler, Recalled(tuple(numbers)))

    def _cancel(self, message: Cancel, now: float) -> None:
        """What waits here goes back; what a handler has is for it to return, or to end: where it
        does not, its process is killed."""
        if message.incarnation != self._incarnation:
            return
        for job in message.jobs:
            holders = (
                pool.holder(job.epoch, job.position) for pool in self._handler_pools.values()
            )
            found = next(filter(None, holders), None)
            if found is None:
                for queue, epoch in self._epochs.items():
                    if epoch == job.epoch:
                        self._settling.withdraw(queue, epoch, job.position)
                continue
            handler, handed = found
            self._context.send(
                handler, Cancel(self._incarnation, (job._replace(number=handed.number),))
            )
            if job.stop and handed.started is not None and handed.draft.size == 1:
                until = now + self._routes[handed.route].grace + STOP_S
                handed.until = min(handed.deadline, until)

    def _tell(self, entries: list[Range | Single]) -> None:
        size = sum(len(entry.raw) for entry in entries if isinstance(entry, Single))
        if len(entries) > 1 and size > TRANSFER_MAX:
            half = len(entries) // 2
            self._tell(entries[:half])
            self._tell(entries[half:])
            return
        reports, self._reports = tuple(self._reports), []
        if entries or reports:
            ranges = tuple(entry for entry in entries if isinstance(entry, Range))
            singles = tuple(entry for entry in entries if isinstance(entry, Single))
            settlement = Settlement(self._incarnation, (), ranges, singles, reports)
            self._context.send(self._connection, settlement)

    def _handler_lost(self, death: HandlerLost, now: float) -> None:
        handler, handler_pool = death.handler, self._pool_of.pop(death.handler, None)
        overdue = self._killed_for.pop(handler, NO_BULK if death.innocent else 0)
        if handler_pool is not None:
            self._journal.release(handler_pool.handlers[handler].bulks)
            losses = handler_pool.lose(handler, overdue, now)
            for route, lost in losses.items():
                self._settle_as(self._routes[route], lost, death.cause, now)
            self._deaths[handler] = "busy" if losses else "idle"
            while len(self._deaths) > DEATHS_MAX:
                del self._deaths[next(iter(self._deaths))]
        # The supervisor charges a death to the bulk in hand, or else to the handler; it may
        # ask again.
        held = self._deaths.get(handler, "idle")
        self._context.send(self._supervisor, HandlerLost(handler, held))

    def _settle_as(self, plan: RoutePlan, lost: Losses, cause: str, now: float) -> None:
        late = f"the bulk took longer than TIMEOUT, {plan.timeout:g} s"
        died = f"alone in a process that died, {plan.max_crashes} times: {cause}"
        for deliveries, settle_as in (
            (lost.timed_out, SettleAs(plan.on_timeout, TimeoutError, late)),
            (lost.crashed, SettleAs(plan.on_crash, HandlerCrashed, died)),
        ):
            if deliveries:
                self._carry_out(plan, deliveries, settle_as, now)

    def _carry_out(
        self, plan: RoutePlan, deliveries: list[tuple[Chunk, int]], settle_as: SettleAs, now: float
    ) -> None:
        self._settling.settle_as(deliveries, *settle_as, now)
        error = f"{class_name(settle_as.error)}: {settle_as.reason}"
        self._reports.append(Report(plan.name, error=error))

    def _drain(self, last_chunk: int, now: float) -> None:
        if self._last_chunk is None:
            self._settling.give_back(now)
        self._last_chunk = last_chunk

    # ── what may have got lost ────────────────────────────────────────────────

    def _held_by_connection(self, message: Outstanding, now: float) -> None:
        chunk_table = self._settling.chunk_table
        self._enter(self._chunks.give_up(message.numbers, message.next), now)
        chunk_table.confirm(message.numbers, message.next)
        self._tell(chunk_table.repeat(message.numbers))
        known = tuple(chunk_table.numbers + self._chunks.early())
        self._context.send(self._connection, Outstanding(known, self._chunks.next))
        if message.old:
            self._recall(dict(message.old), now)

    def _recall(self, old: Old, now: float) -> None:
        """The broker will not wait for what no handler begins by now."""
        aged = [
            route_queue
            for route_queue in set(self._route_queues.values())
            if route_queue.batching.holds(old)
        ]
        for route_queue in aged:
            route_queue.hurried = True
        self._hand_out(now)
        for route_queue in aged:
            route_queue.hurried = False
        self._settling.recall(old)
        for handler_pool in self._handler_pools.values():
            for handler, numbers in handler_pool.recallable(old):
                self._context.send(handler, Recalled(tuple(numbers)))

    def _held_by_handler(self, message: Outstanding, sender: str, now: float) -> None:
        if handler_pool := self._pool_of.get(sender):
            state = handler_pool.handlers[sender]
            state.arrange(message.numbers)
            for handed in state.unknown(set(message.numbers), before=now - ROUND_S):
                handler_pool.again(sender, handed, now)
                self._send(handler_pool, sender, [handed])

    def _watch(self, now: float) -> None:
        """Have handlers killed that hang, ask the others what they hold, and look again
        when something is due."""
        working = any(handler_pool.in_hand for handler_pool in self._handler_pools.values())
        round_is_due = working and now >= self._next_round
        for handler_pool in self._handler_pools.values():
            for handler, handed in handler_pool.overdue(now):
                if round_is_due or handler not in self._killed_for:
                    self._killed_for[handler] = handed.number
                    self._context.send(self._supervisor, HandlerLost(handler, "overdue"))
            for handler, state in handler_pool.handlers.items():
                if round_is_due and state.bulks:
                    self._context.send(handler, Outstanding(tuple(state.bulks), self._next_bulk))
            for handler in handler_pool.retired():
                self._context.send(self._supervisor, Retired(handler))
        if round_is_due:
            self._next_round = now + ROUND_S
        times = [handler_pool.due(now) for handler_pool in self._handler_pools.values()]
        times.append(self._trials_end if self._trials_end > now else None)
        self._alarm.set([*times, self._next_round if working else None], now)

    def _report(self) -> str:
        bulks = sum(handler_pool.in_hand for handler_pool in self._handler_pools.values())
        return json.dumps({"bulks": bulks, "stale": self._stale})
