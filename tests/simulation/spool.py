"""A model of a spool's file; what works on it is the real client, without SQLite.

A transaction is all or nothing, a hand-out counts an attempt, an owner that died holds
what it had until somebody frees it, and delays go by a wall clock that may be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest import mock

from actors.connectors.spool import connection as spool
from actors.connectors.spool.file import SpoolBusy, SpoolError
from actors.connectors.spool.schema import DEAD, DELAYED, READY
from actors.plan.plan import PipelinePlan
from tests.simulation.peer import Peer
from tests.simulation.spoolclient import File, ModelledSpoolClient, Owner

#: Seconds for which somebody else may hold the file's lock.
BUSY = 40.0


@dataclass(slots=True)
class Row:
    """One message."""

    number: int
    key: str
    queue: str
    state: int = READY
    owner: str | None = None
    attempts: int = 0
    not_before: float = 0.0


class Spool(Peer):
    """Rows by their place in line."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rows: dict[int, Row] = {}
        self.owners: dict[str, Owner] = {}
        self.names = (f"owner {number}" for number in count(1))  #: no two alike, ever
        self.version = 0
        self.may_end: set[int] = set()  #: rows that somebody decided on
        self._full = False
        self._broken = False
        self._busy_until = 0.0
        self._clock_error = 0.0

    @property
    def wall(self) -> float:
        return 1e9 + self.now + self._clock_error

    @contextmanager
    def begin(self) -> Iterator[None]:
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.wall)
        with mock.patch.multiple(
            spool,
            time=clock,
            SpoolFile=lambda path, durable: File(self),
            Owner=lambda file: Owner(self),
            has_ready=lambda at, queue: any(self.ready(queue)),
            count_ready=lambda at, queue: len(self.ready(queue)),
            next_delayed=lambda at, queue: self.next_delayed(queue),
        ):
            yield

    def client(self, plan: PipelinePlan) -> ModelledSpoolClient:
        return ModelledSpoolClient(self, plan)

    # ── what is in the file ───────────────────────────────────────────────────

    def put(self, number: int, key: str, queue: str) -> None:
        self.rows[number] = Row(number, key, queue)
        self.change()

    def left(self) -> list[int]:
        return [row.number for row in self.rows.values() if row.state != DEAD]

    def ready(self, queue: str) -> list[int]:
        """What could be claimed now, in line."""
        return [
            seq
            for seq, row in sorted(self.rows.items())
            if row.queue == queue
            and (row.state == READY or (row.state == DELAYED and row.not_before <= self.wall))
        ]

    def next_delayed(self, queue: str) -> float:
        rows = (row for row in self.rows.values() if row.queue == queue and row.state == DELAYED)
        return min((row.not_before for row in rows), default=float("inf"))

    def change(self) -> None:
        """The file is another, and its owners are rung."""
        self.version += 1
        for owner in self.owners.values():
            owner.rung = True

    # ── troubles ──────────────────────────────────────────────────────────────

    def suffer(self, kind: str) -> None:
        if kind == "half open":
            self._busy_until = self.now + BUSY * self.random.random()
        else:
            self._broken = True

    def give_up(self) -> None:
        """Nobody waits for anybody here."""

    def round(self) -> None:
        super().round()
        self._full = self.faults.strikes("refused")
        if self.faults.strikes("wrong clock"):
            self._clock_error = self.random.choice((-600.0, -5.0, 5.0, 600.0))

    def rest(self) -> None:
        super().rest()
        self._full = self._broken = False
        self._clock_error = self._busy_until = 0.0

    @contextmanager
    def transaction(self) -> Iterator[Spool]:
        self.check()
        if self.now < self._busy_until:
            raise SpoolBusy("spool memory: busy")
        if self._full:
            raise SpoolError("spool memory: database or disk is full")
        fails = self.faults.strikes("unconfirmed")
        before = {seq: replace(row) for seq, row in self.rows.items()} if fails else {}
        yield self
        if fails:
            self.rows = before
            raise SpoolError("spool memory: disk I/O error")
        self.version += 1

    def check(self) -> None:
        """Whether the file can be read; readers do not wait for writers."""
        broken, self._broken = self._broken, False
        if broken or not self.reachable:
            raise SpoolError("spool memory: disk I/O error")
