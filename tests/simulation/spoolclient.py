"""The real client of a spool on the model's file, and what it finds there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from actors.connectors.spool.connection import SpoolClient
from actors.connectors.spool.owner import Claim, Unreadable
from actors.connectors.spool.schema import CLAIMED, DEAD, DELAYED, READY
from actors.logic.messages.records import pack
from actors.logic.settlement.copying import Form
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import Republish, Republished

if TYPE_CHECKING:
    from tests.simulation.spool import Spool


class File:
    """A `SpoolFile` of this spool; what is yielded answers the two questions put in SQL."""

    path = Path("memory")
    generation = 1

    def __init__(self, model: Spool) -> None:
        self._model = model

    @contextmanager
    def reading(self, timeout: float = 5.0) -> Iterator[Any]:
        self._model.check()
        yield SimpleNamespace(execute=self._execute)

    @contextmanager
    def transaction(self, timeout: float = 5.0) -> Iterator[Any]:
        with self._model.transaction() as at:
            yield at

    def wake(self, besides: str = "") -> None:
        self._model.change()

    def close(self) -> None:
        """Nothing is open."""

    def _execute(self, question: str) -> Any:
        answer = (self._model.version if "data_version" in question else "3",)
        return SimpleNamespace(fetchone=lambda: answer)


class Owner:
    """An `Owner` of this spool's rows."""

    fileno = -1

    def __init__(self, model: Spool) -> None:
        self.name = next(model.names)
        self.rung = False
        self._model = model
        model.owners[self.name] = self

    def drain(self) -> bool:
        rung, self.rung = self.rung, False
        return rung

    def claim(
        self, at: Any, queue: str, most: int, size: int, *, with_jobs: bool = False
    ) -> tuple[list[Claim], list[Unreadable]]:
        claims = []
        for seq in self._model.ready(queue)[:most]:
            row = self._model.rows[seq]
            row.state, row.owner = CLAIMED, self.name
            headers, body = b'{"key": "%s"}' % row.key.encode(), b"%d" % row.number
            record = pack(str(seq), queue, headers, 0, 0.0, row.attempts, body)
            claims.append(Claim(seq, row.attempts, record))
            row.attempts += 1
        return claims, []

    def bury_strays(self) -> list[Unreadable]:
        return []

    def delete(self, at: Any, seqs: Iterable[int]) -> None:
        for seq in self._mine(seqs):
            model = self._model
            model.witness.holds(seq in model.may_end, f"I1: {seq} is deleted, as nobody decided")
            model.witness.ends[model.rows.pop(seq).number] += 1

    def release(self, at: Any, seqs: Iterable[int], given_back: int = 0) -> None:
        for seq in self._mine(seqs):
            row = self._model.rows[seq]
            row.state, row.owner = READY, None
            row.attempts -= given_back

    def release_as(self, at: Any, seqs: Iterable[int], attempts: int) -> None:
        for seq in self._mine(seqs):
            row = self._model.rows[seq]
            row.state, row.owner, row.attempts = READY, None, attempts

    def delay(self, at: Any, seq: int, request: Republish) -> None:
        for one in self._mine((seq,)):
            row = self._model.rows[one]
            if self._model.witness.stories[row.number].unfit:
                raise ValueError("no such row can be written")
            row.state, row.owner = DELAYED, None
            row.not_before = self._model.wall + request.delay
            row.attempts = request.attempts

    def bury(self, at: Any, seq: int, request: Republish) -> None:
        for one in self._mine((seq,)):
            row = self._model.rows[one]
            if self._model.witness.stories[row.number].unfit and request.form is Form.WHOLE:
                raise ValueError("no such row can be written")
            row.state, row.owner = DEAD, None
            self._model.witness.ends[row.number] += 1

    def free_dead_owners(self) -> None:
        self._model.check()
        for row in self._model.rows.values():
            if row.state == CLAIMED and row.owner not in self._model.owners:
                row.state, row.owner = READY, None

    def leave(self) -> None:
        with self._model.transaction() as at:
            held = [seq for seq, row in at.rows.items() if row.state == CLAIMED]
            self.release(at, held, given_back=1)
        self.abandon()
        self._model.change()

    def abandon(self) -> None:
        self._model.owners.pop(self.name, None)

    def _mine(self, seqs: Iterable[int]) -> list[int]:
        rows = self._model.rows
        return [seq for seq in seqs if seq in rows and rows[seq].owner == self.name]


class ModelledSpoolClient(SpoolClient):
    """The real client on the model's file."""

    def __init__(self, model: Spool, plan: PipelinePlan) -> None:
        super().__init__(plan)
        self.receipts = model.witness.connected()
        self._model = model
        self._republishing: dict[int, Republish] = {}

    def deadline(self) -> float | None:
        owner: Any = self._owner
        if self._events or (owner and owner.rung):
            return self._model.now
        return super().deadline()

    def turn(self, now: float) -> list[Any]:
        events = super().turn(now)
        for event in events:
            if isinstance(event, Republished):
                self._model.witness.copied(self.receipts, self._republishing[event.token])
        return events

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        self._model.witness.settled(self.receipts, epoch, flush)
        if consumer := self._consumers.get((queue, epoch)):
            acked = [p for first, last in flush.acked for p in range(first, last + 1)]
            rows = consumer.rows
            self._model.may_end.update(rows[p] for p in (*acked, *flush.rejected) if p in rows)
        super().settle(queue, epoch, flush)

    def republish(self, request: Republish) -> None:
        self._republishing[request.token] = request
        self._model.witness.on_republished(self.receipts, request)
        super().republish(request)
