"""The messages that a spool's client has handed on, and the writes that it still owes."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import accumulate
from sqlite3 import Connection, DataError, InterfaceError, ProgrammingError

from actors.connectors.spool.owner import Claim, Owner
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

    def __len__(self) -> int:
        return len(self.deleted) + self.released

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

    def write(self, owner: Owner, at: Connection) -> None:
        """Carry out all; a move that cannot be written takes no other with it."""
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
                else:
                    owner.delay(at, row, request)
            except _UNFIT as error:
                self.unfit[request.token] = repr(error)
