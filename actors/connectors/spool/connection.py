"""A spool as a connection to the world: its `ConnectionClient`.

All that one turn has to say to the file is one transaction: what was settled and moved
since the last, and what is claimed in its place.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.connectors.spool import jobs
from actors.connectors.spool.consumer import Pending, SpoolConsumer
from actors.connectors.spool.file import SpoolBusy, SpoolError, SpoolFile
from actors.connectors.spool.job_store import ring
from actors.connectors.spool.owner import (
    LOCK,
    Claim,
    Owner,
    Unreadable,
    count_ready,
    has_ready,
    next_delayed,
)
from actors.errors import ConfigurationError, Fault
from actors.logic.jobs.job import Answer, Progress
from actors.logic.settlement.copying import Refusal
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import (
    CancelRequested,
    Consuming,
    DeadLettered,
    Depth,
    Lost,
    Opened,
    Patient,
    Republish,
    Republished,
    RepublishFailed,
    Stopped,
)

CLAIM_MAX = 1024  #: messages claimed from one queue in one turn
SIZE = 8 * 1024 * 1024  #: bytes claimed in one turn, over all queues
SETTLE = 0.02  #: seconds that a settlement waits for company at the most
POLL = 1.0  #: seconds between looks at the file where nobody rings
SWEEP = 5.0  #: seconds between looks for dead owners
LOCK_TIMEOUT_S = 30.0  #: seconds without the lock until the spool counts as lost


class SpoolClient(Patient):
    """Serves a pipeline's queues from one spool file; `plan.settings` is `{"path": …}`.

    A settlement is written at the next turn: at once where a quarter of a window has come
    free, otherwise within 20 ms.
    """

    def __init__(self, plan: PipelinePlan) -> None:
        self._file = SpoolFile(Path(json.loads(plan.settings)["path"]), durable=False)
        self._owner: Owner | None = None
        self._consumers: dict[tuple[str, int], SpoolConsumer] = {}
        self._pending = Pending()
        self._events: list[Any] = []
        self._measured: list[str] = []
        self._tasks = {queue for route in plan.routes if route.tasks for queue in route.queues}
        self._limits: dict[tuple[str, ...], int] = {}  #: of queues together
        self._ask_at = 0.0  #: monotonic: when jobs are looked at that nobody rang for
        self._turn = 0  #: of the queue that is to claim first
        self._due = float("inf")  #: monotonic: when the next turn is wanted
        self._changed = True  #: the file may hold something that nobody has looked at
        self._seen = (0, 0)  #: the file that was looked at last, and its version
        self._next_delayed = float("inf")  #: wall clock
        self._sweep_at = 0.0
        self._stuck_at = float("inf")  #: monotonic: when patience with the lock ends

    # ── what the connection asks ───────────────────────────────────────────────

    def open(self) -> None:
        try:
            with self._file.reading() as at:
                (version,) = at.execute("SELECT sqlite_version()").fetchone()
            self._owner = Owner(self._file)
            self._owner.free_dead_owners()
            dead_lettered = self._owner.bury_strays()
        except (ConfigurationError, SpoolError, OSError) as error:
            self._lose(error)
        else:
            self._sweep_at = time.monotonic() + SWEEP
            self._events.append(Opened(f"SQLite {version}, {self._file.path}"))
            self._report_buried(dead_lettered)
        self._hurry()

    def consume(self, queue: str, epoch: int, window: int, alone: int = 0) -> None:
        if self._owner:
            self._consumers = {
                key: consumer for key, consumer in self._consumers.items()
                if key[0] != queue or consumer.rows
            }  # fmt: skip
            self._consumers[queue, epoch] = SpoolConsumer(queue, epoch, window)
            self._hurry()

    def cancel(self, queue: str, epoch: int) -> None:
        if consumer := self._consumers.get((queue, epoch)):
            consumer.open = False
            self._events.append(Stopped(queue, epoch))
            self._hurry()

    def resume(self, queue: str, epoch: int) -> None:
        if consumer := self._consumers.get((queue, epoch)):
            consumer.open, consumer.announced = True, False
            self._hurry()

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        if consumer := self._consumers.get((queue, epoch)):
            self._pending.add(consumer.rows, flush)
            # Somebody may wait for the outcome of a job, and no other is under way.
            is_last = queue in self._tasks and not consumer.rows
            soon = is_last or 4 * len(self._pending) >= consumer.window
            self._hurry(0.0 if soon else SETTLE)

    def republish(self, request: Republish) -> None:
        if consumer := self._consumers.get((request.queue, request.epoch)):
            self._pending.requests.append((consumer.rows.pop(request.position, None), request))
            self._hurry(SETTLE)

    def widen(self, queue: str, epoch: int, window: int) -> None:
        if consumer := self._consumers.get((queue, epoch)):
            consumer.window = window
            self._changed = True
            self._hurry(SETTLE)

    def limit(self, queues: tuple[str, ...], most: int) -> None:
        if self._limits.get(queues) != most:
            self._limits[queues] = most
            self._changed = True
            self._hurry(SETTLE)

    def begin(self, queue: str, epoch: int, positions: tuple[int, ...], worker: str) -> None:
        if consumer := self._consumers.get((queue, epoch)):
            rows = (consumer.rows.get(position) for position in positions)
            self._pending.begun += [(row, worker) for row in rows if row is not None]
            self._hurry(SETTLE)

    def report(self, queue: str, epoch: int, position: int, progress: Progress) -> None:
        consumer = self._consumers.get((queue, epoch))
        if consumer and (row := consumer.rows.get(position)) is not None:
            self._pending.reports[row] = progress
            self._hurry(SETTLE)

    def notify(self, request: bytes, worker: str, progress: Progress | None) -> None:
        """Nobody asks over a spool: callers look at the job itself."""

    def conclude(self, queue: str, epoch: int, position: int, answer: Answer) -> None:
        consumer = self._consumers.get((queue, epoch))
        if consumer and (row := consumer.rows.get(position)) is not None:
            self._pending.answers[row] = answer

    def measure(self, queue: str) -> None:
        self._measured.append(queue)
        self._hurry()

    def shut(self) -> None:
        if self._owner is None:
            self._lose(None)
            return
        try:
            with self._file.transaction() as at:
                self._pending.write(self._owner, at, with_jobs=bool(self._tasks))
            self._report_moves()
            ring(self._file, self._pending.waiters)
            self._owner.leave()
        except (SpoolError, OSError) as error:
            self._lose(error)
        else:
            self._lose(None)

    # ── the stage's side ───────────────────────────────────────────────────────

    def fileno(self) -> int:
        return self._owner.fileno if self._owner else -1

    def deadline(self) -> float | None:
        return None if self._due == float("inf") else self._due

    def turn(self, now: float) -> list[Any]:
        self._due = float("inf")
        if self._owner:
            try:
                self._work(self._owner, now)
                self._stuck_at = float("inf")
            except SpoolBusy as error:
                self._wait(error, now)
            except (SpoolError, ConfigurationError, OSError) as error:
                self._lose(error)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        if self._owner:
            self._owner.abandon()
            self._owner = None
        self._file.close()

    # ── one turn ───────────────────────────────────────────────────────────────

    def _work(self, owner: Owner, now: float) -> None:
        self._announce()
        if now >= self._sweep_at:
            owner.free_dead_owners()
            self._report_buried(owner.bury_strays())
            self._sweep_at = now + SWEEP
        if owner.drain():
            self._changed, self._ask_at = True, now
        if self._tasks:
            self._look_at_jobs(owner, now)
        wanting = self._wanting()
        if wanting or self._pending:
            with self._file.transaction(LOCK) as at:
                self._pending.write(owner, at, with_jobs=bool(self._tasks))
                self._keep_unfit()
                if wanting and self._tasks:
                    self._pending.waiters |= jobs.sweep(at, time.time())
                claimed = list(self._claim(owner, at, wanting))
            self._written(owner, claimed)
        self._measure()
        self._plan_next(now)

    def _announce(self) -> None:
        for consumer in self._consumers.values():
            if consumer.open and not consumer.announced:
                consumer.announced = self._changed = True
                self._events.append(Consuming(consumer.queue, consumer.epoch))

    def _look_at_jobs(self, owner: Owner, now: float) -> None:
        """Pass on what people ask of jobs in hand, and end what has expired."""
        if now < self._ask_at:
            return
        self._ask_at = now + POLL
        with self._file.reading(LOCK) as at:
            asked = jobs.asked(at, owner.name)
            is_due = jobs.is_sweep_due(at)
        if asked:
            places = {
                row: (consumer, position)
                for consumer in self._consumers.values()
                for position, row in consumer.rows.items()
            }
            for seq, stop in asked:
                if seq in places:
                    consumer, position = places[seq]
                    self._events.append(
                        CancelRequested(consumer.queue, consumer.epoch, position, stop)
                    )
        if is_due:
            with self._file.transaction(LOCK) as at:
                told = jobs.sweep(at, time.time())
            ring(self._file, told)

    def _room(self, consumer: SpoolConsumer, taken: int = 0) -> int:
        """Room of a queue for claims, beside those that share its limit."""
        room = consumer.room
        for queues, most in self._limits.items():
            if consumer.queue in queues:
                held = sum(
                    len(other.rows) for other in self._consumers.values() if other.queue in queues
                )
                room = min(room, most - held - taken)
        return room

    def _wanting(self) -> list[SpoolConsumer]:
        """Intakes with room, where the file may have something for them."""
        wanting = [consumer for consumer in self._consumers.values() if self._room(consumer) > 0]
        if not wanting:
            return []
        with self._file.reading(LOCK) as at:
            (version,) = at.execute("PRAGMA data_version").fetchone()
            seen = (self._file.generation, version)  # each connection counts by itself
            self._changed |= seen != self._seen or time.time() >= self._next_delayed
            self._seen = seen
            if not self._changed and not self._pending:
                return []
            self._changed = False
            wanting = [consumer for consumer in wanting if has_ready(at, consumer.queue)]
        # In turn, for a limit may leave room for the first alone.
        self._turn += 1
        first = self._turn % max(1, len(wanting))
        return wanting[first:] + wanting[:first]

    def _claim(
        self, owner: Owner, at: sqlite3.Connection, wanting: list[SpoolConsumer]
    ) -> Iterator[tuple[SpoolConsumer, list[Claim], list[Unreadable]]]:
        taken: dict[tuple[str, ...], int] = {}
        for consumer in wanting:
            limits = [queues for queues in self._limits if consumer.queue in queues]
            beside = max((taken.get(queues, 0) for queues in limits), default=0)
            most = min(self._room(consumer, beside), CLAIM_MAX)
            if most <= 0:  # what could not be written has taken it
                continue
            claims, unreadable = owner.claim(
                at,
                consumer.queue,
                most,
                SIZE // len(wanting),
                with_jobs=consumer.queue in self._tasks,
            )
            for queues in limits:
                taken[queues] = taken.get(queues, 0) + len(claims)
            yield consumer, claims, unreadable

    def _written(
        self, owner: Owner, claimed: list[tuple[SpoolConsumer, list[Claim], list[Unreadable]]]
    ) -> None:
        """Say what has happened, now that it is committed."""
        self._report_moves()
        ring(self._file, self._pending.waiters)
        if self._pending.released:
            self._changed = True  # what was released may be fetched again
            self._file.wake(besides=owner.name)
        self._pending = Pending()
        for consumer, claims, unreadable in claimed:
            if claims or unreadable:
                self._changed = True  # there may be more of them
            if claims:
                self._events.append(consumer.take(claims))
            self._report_buried(unreadable)

    def _keep_unfit(self) -> None:
        """What could not be written is still in hand, and takes its room."""
        for row, request in self._pending.requests:
            consumer = self._consumers.get((request.queue, request.epoch))
            if row is not None and consumer and request.token in self._pending.unfit:
                consumer.rows[request.position] = row

    def _report_moves(self) -> None:
        for _, request in self._pending.requests:
            if cause := self._pending.unfit.get(request.token):
                self._events.append(RepublishFailed(request.token, cause, Refusal.UNFIT))
            else:
                self._events.append(Republished(request.token))

    def _report_buried(self, unreadable: list[Unreadable]) -> None:
        epochs = dict(self._consumers.keys())
        for queue in dict.fromkeys(message.queue for message in unreadable):
            reasons = tuple(reason for name, reason in unreadable if name == queue)
            self._events.append(DeadLettered(queue, epochs.get(queue, 0), reasons))

    def _measure(self) -> None:
        if self._measured:
            with self._file.reading(LOCK) as at:
                for queue in self._measured:
                    counted = jobs.counted(at, queue) if queue in self._tasks else {}
                    told = tuple((status.value, number) for (_, status), number in counted.items())
                    self._events.append(Depth(queue, count_ready(at, queue), told))
            self._measured = []

    def _plan_next(self, now: float) -> None:
        self._due = min(self._due, self._sweep_at)
        if self._tasks and any(consumer.rows for consumer in self._consumers.values()):
            self._due = min(self._due, self._ask_at)
        wanting = [c.queue for c in self._consumers.values() if self._room(c) > 0]
        if not wanting:
            return
        if self._changed:
            self._due = now
            return
        with self._file.reading(LOCK) as at:
            self._next_delayed = min(next_delayed(at, queue) for queue in wanting)
        wait = max(0.0, min(POLL, self._next_delayed - time.time()))
        self._due = min(self._due, now + wait)

    # ── small parts ────────────────────────────────────────────────────────────

    def _hurry(self, seconds: float = 0.0) -> None:
        self._due = min(self._due, time.monotonic() + seconds)

    def _wait(self, error: SpoolBusy, now: float) -> None:
        """Somebody else writes for long: what is settled is kept, and tried again."""
        self._changed = True  # what was seen could not be claimed
        self._stuck_at = min(self._stuck_at, now + LOCK_TIMEOUT_S)
        if now >= self._stuck_at:
            self._lose(error)
        else:
            self._due = now + SETTLE

    def _lose(self, error: Exception | None) -> None:
        """Let go; without an error, in order. What was held is freed by whoever opens next."""
        fault = Fault.REFUSED if isinstance(error, ConfigurationError) else Fault.UNREACHABLE
        cause = "" if error is None else str(error).removeprefix("connection ")
        self._events.append(Lost(cause, fault))
        self.close()
        self._consumers.clear()
        self._pending = Pending()
        self._measured = []
        self._stuck_at = float("inf")
        self._due = 0.0
