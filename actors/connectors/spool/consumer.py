"""The messages that a spool's client has handed on, and the writes that it still owes."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import accumulate
from sqlite3 import Connection, DataError, InterfaceError, ProgrammingError

from actors.connectors.spool import jobs
from actors.connectors.spool.owner import Claim, Owner
from actors.logic.jobs.job import Answer, Progress, killed
from actors.logic.settlement.ledger import Flush
from actors.roles.port import Fetched, Republish

#: What SQLite raises for a value that it cannot store; the file itself is well.
_UNFIT = (ValueError, TypeError, OverflowError, ProgrammingError, InterfaceError, DataError)


@dataclass(slots=True)
class SpoolConsumer:
    """One epoch of a queue."""

    queue: str
    epoch: int
    window: int
    announced: bool = False
    open: bool = True
    position: int = 0  #: of the last delivery handed on
    rows: dict[int, int] = field(default_factory=dict)  #: position → row, while unsettled

    @property
    def room(self) -> int:
        return self.window - len(self.rows) if self.open else 0

    def take(self, claims: list[Claim]) -> Fetched:
        first = self.position + 1
        self.position += len(claims)
        self.rows.update(zip(range(first, self.position + 1), (c.seq for c in claims), strict=True))
        records = [claim.record for claim in claims]
        return Fetched(
            self.queue,
            self.epoch,
            first,
            b"".join(records),
            array("I", accumulate(map(len, records))).tobytes(),
            tuple((i, claim.attempts) for i, claim in enumerate(claims) if claim.attempts),
        )


@dataclass(slots=True)
class Pending:
    """Settled, and not yet written."""

    deleted: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    told: dict[int, list[int]] = field(default_factory=dict)  #: given back, by attempts
    requests: list[tuple[int | None, Republish]] = field(default_factory=list)
    unfit: dict[int, str] = field(default_factory=dict)  #: why a move was not written, by token
    begun: list[tuple[int, str]] = field(default_factory=list)  #: jobs, each with its worker
    reports: dict[int, Progress] = field(default_factory=dict)  #: of jobs that go on
    answers: dict[int, Answer] = field(default_factory=dict)  #: of jobs that ended
    waiters: set[str] = field(default_factory=set)  #: who is to be rung once it is written

    def __len__(self) -> int:
        return len(self.deleted) + self.released + len(self.begun) + len(self.reports)

    @property
    def released(self) -> int:
        """How many others may fetch once it is written."""
        told = sum(map(len, self.told.values()))
        return len(self.failed) + len(self.returned) + told + len(self.requests)

    def add(self, rows: dict[int, int], flush: Flush) -> None:
        """Positions that are settled already, or that were moved, have no row any more."""
        acked = (p for first, last in flush.acked for p in range(first, last + 1))
        self.deleted += [rows.pop(p) for p in acked if p in rows]
        self.deleted += [rows.pop(p) for p in flush.rejected if p in rows]
        for position, attempts in flush.told:
            if position in rows:
                self.told.setdefault(attempts, []).append(rows.pop(position))
        self.failed += [rows.pop(p) for p in flush.failed if p in rows]
        self.returned += [rows.pop(p) for p in flush.returned if p in rows]

    def write(self, owner: Owner, at: Connection, *, with_jobs: bool = False) -> None:
        """Carry out all; a move that cannot be written takes no other with it."""
        if with_jobs:
            self._write_jobs(owner, at)
        if self.deleted:
            owner.delete(at, self.deleted)
        if self.failed:
            owner.release(at, self.failed)
        if self.returned:
            owner.release(at, self.returned, given_back=1)
        for attempts, told in self.told.items():
            owner.release_as(at, told, attempts)
        self.unfit = {}
        for row, request in self.requests:
            if row is None:
                continue
            try:
                if request.dead:
                    owner.bury(at, row, request)
                    if with_jobs:
                        jobs.fail(at, row, _answer(at, row, request))
                elif not with_jobs or jobs.come_back(at, row, _answer(at, row, request)):
                    owner.delay(at, row, request)
            except _UNFIT as error:
                self.unfit[request.token] = repr(error)

    def _write_jobs(self, owner: Owner, at: Connection) -> None:
        """Write of jobs, before their messages move, all that messages cannot say."""
        told = [row for rows in self.told.values() for row in rows]
        moved = [row for row, _ in self.requests if row is not None]
        begun = [row for row, _ in self.begun]
        rows = {*self.deleted, *self.failed, *self.returned, *told, *moved, *begun, *self.reports}
        held = owner.held(at, rows)
        # One that was given up for dead has no say any more.
        self.requests = [(r if r in held else None, request) for r, request in self.requests]
        jobs.begin(at, [(row, worker) for row, worker in self.begun if row in held])
        jobs.report(at, [(row, said) for row, said in self.reports.items() if row in held])
        done = [(row, self.answers.get(row, Answer())) for row in self.deleted if row in held]
        jobs.finish(at, done)
        if back := [*self.failed, *told]:
            jobs.release(at, owner.name, back, dead=True)
        if self.returned:
            jobs.release(at, owner.name, self.returned, dead=False)
        self.waiters = jobs.waiters(at, rows)


def _answer(at: Connection, row: int, request: Republish) -> Answer:
    """The process's own, or the one for a process that is gone."""
    is_stopping = request.answer is None and jobs.is_stopping(at, row)
    return request.answer or killed(request.error, request.reason, is_stopping=is_stopping)
