"""The spool over its real file, beside a model: puts, owners that settle, leave and die.

Nothing that was put is lost, nothing comes twice without its attempts, and what comes next
is what has waited longest at the highest priority.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actors.connectors.spool import connection as spool
from actors.connectors.spool import file as spoolfile
from actors.connectors.spool import owner as spoolowner
from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.connection import SWEEP, SpoolClient
from actors.connectors.spool.file import SpoolFile
from actors.logic.messages.entry import Entry
from actors.logic.messages.records import unpack
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import Fetched, Lost, Opened, Republish, Republished

QUEUES = ("p", "q")
WINDOW = 4
ACTIONS = ("ack", "reject", "fail", "return", "dead", "retry", "snooze")
ANY_ACTIONS = st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=2 * WINDOW)


@dataclass
class Put:
    """A message as the model has it."""

    id: str
    order: int
    queue: str
    priority: int
    due: float
    attempts: int = 0
    state: str = "ready"  #: ready (once it is due), held, dead


@dataclass
class Worker:
    """A client, what it has in hand, and what was settled and is not yet written."""

    client: SpoolClient
    held: dict[tuple[str, int], Put] = field(default_factory=dict)
    settled: list[tuple[str, Put]] = field(default_factory=list)


class Spool(RuleBasedStateMachine):
    """Two owners at the most, a wall clock that only the rules move."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="callboard-spool-"))
        self.now = 1_000_000.0
        self.patch = pytest.MonkeyPatch()
        self.turned = 0.0  # seconds on the monotonic clock
        clock = SimpleNamespace(
            time=lambda: self.now, monotonic=lambda: self.turned, sleep=time.sleep
        )
        for module in (spool, spoolfile, spoolowner):
            self.patch.setattr(module, "time", clock)
        self.file = SpoolFile(self.directory / "spool.db")
        self.admin = SpoolAdmin(self.file)
        self.messages: dict[str, Put] = {}
        self.number = self.tokens = 0
        self.workers: dict[str, Worker] = {}
        self.orphans: list[Put] = []  # of owners that died

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            try:
                self.drain()
            finally:
                for worker in self.workers.values():
                    worker.client.close()
                self.file.close()
                self.patch.undo()
                shutil.rmtree(self.directory)

    # ── what comes in ────────────────────────────────────────────────────────

    @rule(
        queue=st.sampled_from(QUEUES),
        entries=st.lists(
            st.tuples(st.sampled_from([0, 0, 5, 255]), st.sampled_from([0.0, 0.0, 30.0])),
            min_size=1,
            max_size=5,
        ),
    )
    def put(self, queue: str, entries: list[tuple[int, float]]) -> None:
        made = []
        for priority, delay in entries:
            self.number += 1
            made.append(Entry(b"%d" % self.number, f"m{self.number}", None, priority, delay))
            put = Put(f"m{self.number}", self.number, queue, priority, self.now + delay)
            self.messages[put.id] = put
        assert self.file.put(queue, made) == [entry.id for entry in made]

    @rule()
    def open_the_file_anew(self) -> None:
        self.file.close()

    @rule(seconds=st.sampled_from([1.0, 20.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    # ── owners ───────────────────────────────────────────────────────────────

    @rule(name=st.sampled_from("ab"))
    def work(self, name: str) -> None:
        if name not in self.workers:
            plan = PipelinePlan("s", "spool", json.dumps({"path": str(self.file.path)}))
            worker = self.workers[name] = Worker(SpoolClient(plan))
            worker.client.open()
            for epoch, queue in enumerate(QUEUES, 1):
                worker.client.consume(queue, epoch, WINDOW)
            assert isinstance(self.turn(name)[0], Opened)
        self.turn(name)

    @rule(name=st.sampled_from("ab"), actions=ANY_ACTIONS, written=st.booleans())
    def settle(self, name: str, actions: list[str], written: bool) -> None:
        """In any order; it is written with the next turn."""
        if name not in self.workers or not self.workers[name].held:
            self.work(name)
        worker = self.workers[name]
        for (queue, position), action in zip(list(worker.held), actions, strict=False):
            self.tell(worker, queue, position, action)
        if written:
            self.turn(name)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """What was settled and not yet written was not settled."""
        worker = self.workers.pop(data.draw(st.sampled_from(sorted(self.workers))))
        worker.client.close()
        self.orphans += [*worker.held.values(), *(put for _, put in worker.settled)]

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """In order: what is in hand goes back uncounted."""
        worker = self.workers.pop(data.draw(st.sampled_from(sorted(self.workers))))
        worker.client.shut()
        self.written(worker)
        for put in worker.held.values():
            put.state, put.attempts = "ready", put.attempts - 1
        assert isinstance(worker.client.turn(self.turned)[-1], Lost)

    # ── people ───────────────────────────────────────────────────────────────

    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        gone = [put for put in self.of(queue) if put.state == "ready"]
        assert self.admin.purge(queue) == len(gone)
        for put in gone:
            del self.messages[put.id]

    @rule(queue=st.sampled_from(QUEUES), to=st.sampled_from(("", *QUEUES)))
    def redrive(self, queue: str, to: str) -> None:
        dead = [put for put in self.of(queue) if put.state == "dead"]
        assert set(self.admin.redrive(queue, to=to)) == {put.id for put in dead}
        for put in dead:
            put.state, put.queue, put.attempts, put.due = "ready", to or queue, 0, 0.0

    @rule(queue=st.sampled_from(QUEUES))
    def purge_dead(self, queue: str) -> None:
        dead = [put for put in self.of(queue) if put.state == "dead"]
        assert set(self.admin.purge_dead(queue)) == {put.id for put in dead}
        for put in dead:
            del self.messages[put.id]

    # ── the model ────────────────────────────────────────────────────────────

    @invariant()
    def the_file_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "admin"):
            return
        counts = {count.queue: count for count in self.admin.queues()}
        for queue in QUEUES:
            states = [put.state for put in self.of(queue)]
            count = counts.get(queue)
            assert (count.ready + count.delayed if count else 0) == states.count("ready")
            assert (count.claimed if count else 0) == states.count("held")
            assert (count.dead if count else 0) == states.count("dead")
            shown = {one.id: one.attempts for one in self.admin.show(queue, limit=10_000)}
            shown |= {one.id: one.attempts for one in self.admin.dead(queue)}
            assert shown == {put.id: put.attempts for put in self.of(queue)}

    def of(self, queue: str) -> list[Put]:
        return [put for put in self.messages.values() if put.queue == queue]

    def turn(self, name: str) -> list[Any]:
        """An owner frees what dead ones held, writes what was settled, takes what is ready."""
        worker = self.workers[name]
        self.bury_orphans()
        self.turned += SWEEP
        events = worker.client.turn(self.turned)
        requests = self.written(worker)
        assert sum(isinstance(event, Republished) for event in events) == requests
        for event in events:
            assert not isinstance(event, Lost)
            if isinstance(event, Fetched):
                self.took(worker, event)
        return events

    def took(self, worker: Worker, fetched: Fetched) -> None:
        waiting = [p for p in self.of(fetched.queue) if p.state == "ready" and p.due <= self.now]
        waiting.sort(key=lambda put: (-put.priority, put.order))
        for position, (attempts, record) in enumerate(cut(fetched), fetched.first):
            put = waiting.pop(0)
            assert (record.id, record.body) == (put.id, b"%d" % put.order)
            assert attempts == record.attempts == put.attempts
            put.state, put.attempts = "held", put.attempts + 1
            worker.held[fetched.queue, position] = put
        assert sum(queue == fetched.queue for queue, _ in worker.held) <= WINDOW

    def tell(self, worker: Worker, queue: str, position: int, action: str) -> None:
        put = worker.held.pop((queue, position))
        worker.settled.append((action, put))
        epoch = QUEUES.index(queue) + 1
        if action in ("dead", "retry", "snooze"):
            self.tokens += 1
            worker.client.republish(
                Republish(self.tokens, queue, epoch, position, action == "dead", 30.0,
                     put.attempts - (action == "snooze"))
            )  # fmt: skip
            return
        flush = {
            "ack": Flush(acked=((position, position),)),
            "reject": Flush(rejected=(position,)),
            "fail": Flush(failed=(position,)),
            "return": Flush(returned=(position,)),
        }[action]
        worker.client.settle(queue, epoch, flush)

    def written(self, worker: Worker) -> int:
        """All that was settled is in the file; returns how many moves were among it."""
        requests = 0
        for action, put in worker.settled:
            if action in ("ack", "reject"):
                del self.messages[put.id]
                continue
            requests += action in ("dead", "retry", "snooze")
            put.state = "dead" if action == "dead" else "ready"
            put.attempts -= action in ("return", "snooze")
            put.due = self.now + 30.0 if action in ("retry", "snooze") else 0.0
        worker.settled.clear()
        return requests

    def bury_orphans(self) -> None:
        """What dead owners held is ready again, with its attempts counted."""
        for put in self.orphans:
            put.state = "ready"
        self.orphans.clear()

    def drain(self) -> None:
        """At the end everything that is not dead comes out, once."""
        self.work("a")
        left = sum(put.state != "dead" for put in self.messages.values())
        for _ in range(2 * left + 4):
            self.now += 100.0
            for name, worker in self.workers.items():
                for queue, position in list(worker.held):
                    self.tell(worker, queue, position, "ack")
                self.turn(name)
        assert all(put.state == "dead" for put in self.messages.values()), self.messages
        self.the_file_holds_what_the_model_holds()


def cut(fetched: Fetched) -> Iterator[tuple[int, Any]]:
    """Attempts as they are told, and the record, of each delivery."""
    ends, flagged = array("I", fetched.ends), dict(fetched.flagged)
    for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        yield flagged.get(index, 0), unpack(fetched.blob[start:end])


def test_a_spool_keeps_what_was_put_whatever_becomes_of_its_owners() -> None:
    examples = max(1, settings().max_examples // 2)
    run_state_machine_as_test(Spool, settings=settings(max_examples=examples))
