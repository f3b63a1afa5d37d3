"""Whatever callers, owners and people do, a spool's jobs are those of the model."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.connectors.spool import jobs as rows
from actors.connectors.spool import owner as owners
from actors.connectors.spool.consumer import Pending
from actors.connectors.spool.owner import Owner
from actors.connectors.spool.schema import _JOBS, _SCHEMA, _statements
from actors.logic.jobs.job import (
    Answer,
    Claimed,
    Conclusion,
    Conflict,
    Ending,
    NewJob,
    Progress,
    Status,
    UniqueKey,
    Until,
)
from actors.logic.jobs.jobs import JobConflict, Jobs
from actors.roles.port import Republish

OWNERS = ("0" * 16, "1" * 16)

delays = st.sampled_from((0.0, 1.0, 5.0))
uniques = st.none() | st.builds(
    UniqueKey,
    st.sampled_from("xy"),
    st.sampled_from((Until.ENDED, Until.BEGUN, 3.0)),
    st.sampled_from(Conflict),
)


class SQLite:
    """The rows of jobs, moved as the actors' client moves them."""

    def __init__(self) -> None:
        self.at = sqlite3.connect(":memory:", isolation_level=None)
        for statement in _statements(_SCHEMA + _JOBS):
            self.at.execute(statement)
        self.owners = {name: Owner.__new__(Owner) for name in OWNERS}
        for name, owner in self.owners.items():
            owner.name = name
        self.claims: dict[str, tuple[int, int]] = {}  # number and row, by job

    def seq(self, id: str) -> int:
        found = self.at.execute("SELECT seq FROM job WHERE id = ?", (id,)).fetchone()
        return found[0] if found else 0

    def put(self, job: NewJob) -> list[str]:
        self.at.execute("BEGIN")
        try:
            ids = rows.put(self.at, [job])
        except JobConflict:
            self.at.execute("ROLLBACK")
            raise
        self.at.execute("COMMIT")
        return ids

    def claim(self, owner: str, count: int, now: float) -> list[str]:
        rows.sweep(self.at, now)
        claims, _ = self.owners[owner].claim(self.at, "q", count, 1 << 20)
        query = "SELECT id FROM job WHERE seq = ?"
        return [self.at.execute(query, (claim.seq,)).fetchone()[0] for claim in claims]

    def is_of(self, claimed: Claimed) -> bool:
        seq = self.seq(claimed.id)
        return seq in self.owners[claimed.owner].held(self.at, [seq])

    def begin(self, claimed: Claimed) -> bool:
        seq = self.seq(claimed.id)
        info = rows.get(self.at, claimed.id)
        if info is None or info.status is Status.STARTED or not rows.may_begin(self.at, seq):
            return False
        rows.begin(self.at, [(seq, "w")])
        return True

    def conclude(self, end: Conclusion) -> None:
        seq, owner = self.seq(end.job), self.owners[end.owner]
        answer = Answer(end.outcome, end.error, end.ending is Ending.STOPPED)
        match end.ending:
            case Ending.FINISHED:
                rows.finish(self.at, [(seq, answer)])
                owner.delete(self.at, [seq])
            case Ending.FAILED | Ending.STOPPED:
                owner.bury(self.at, seq, self._move(end, dead=True, attempts=0))
                rows.fail(self.at, seq, answer)
            case Ending.RETRY | Ending.SNOOZE:
                info = rows.get(self.at, end.job)
                assert info
                attempts = info.attempts - (end.ending is Ending.SNOOZE)
                if rows.come_back(self.at, seq, answer):
                    owner.delay(self.at, seq, self._move(end, dead=False, attempts=attempts))

    def _move(self, end: Conclusion, *, dead: bool, attempts: int) -> Republish:
        return Republish(1, "q", 1, 1, dead, end.delay, attempts, "q", end.error, "")

    def release(self, owner: str, *, is_dead: bool) -> None:
        rows.release(self.at, owner, dead=is_dead)
        held = [seq for (seq,) in self.at.execute(
            "SELECT seq FROM message WHERE owner = ? AND state = 2", (owner,)
        )]  # fmt: skip
        self.owners[owner].release(self.at, held, given_back=0 if is_dead else 1)


class Alike(RuleBasedStateMachine):
    """The model and the rows, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.patch = pytest.MonkeyPatch()
        clock = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        self.patch.setattr(owners, "time", clock)
        self.patch.setattr(rows, "time", clock)
        self.model = Jobs()
        self.sqlite = SQLite()
        self.count = 0
        self.claims: list[Claimed] = []

    def teardown(self) -> None:
        self.patch.undo()
        self.sqlite.at.close()

    @initialize()
    def both_are_empty(self) -> None:
        assert rows.listed(self.sqlite.at) == []

    @rule(
        delay=delays,
        expires=st.sampled_from((2.0, float("inf"))),
        priority=st.integers(0, 2),
        once=st.booleans(),
        ttl=st.sampled_from((0.0, 3.0, 1e9)),
        unique=uniques,
    )
    def put(
        self,
        delay: float,
        expires: float,
        priority: int,
        once: bool,
        ttl: float,
        unique: UniqueKey | None,
    ) -> None:
        self.count += 1
        job = NewJob(
            f"j{self.count}", "task", "q", b"[]", priority=priority, delay=delay, expires=expires,
            result_ttl=ttl, failure_ttl=1e9, at_most_once=once, unique=unique,
        )  # fmt: skip
        assert self.put_to(self.sqlite.put, job) == self.put_to(self.model_put, job)

    def model_put(self, job: NewJob) -> list[str]:
        return self.model.put([job], self.now)

    def put_to(self, store: Callable[[NewJob], list[str]], job: NewJob) -> list[str]:
        try:
            return store(job)
        except JobConflict as conflict:
            return ["conflict", conflict.holder]

    @rule(owner=st.sampled_from(OWNERS), count=st.integers(1, 3))
    def claim(self, owner: str, count: int) -> None:
        claimed = self.model.claim("q", owner, count, self.now)
        found = self.sqlite.claim(owner, count, self.now)
        assert found == [one.id for one in claimed]
        self.claims += claimed

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        claimed = data.draw(st.sampled_from(self.claims))
        if self.is_present(claimed):
            expected = self.model.begin(claimed.id, claimed.owner, claimed.number, "w", self.now)
            assert self.sqlite.begin(claimed) == expected

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), ending=st.sampled_from(Ending), delay=delays)
    def conclude(self, data: st.DataObject, ending: Ending, delay: float) -> None:
        claimed = data.draw(st.sampled_from(self.claims))
        error = "" if ending is Ending.FINISHED else "E"
        end = Conclusion(
            claimed.id, claimed.owner, claimed.number, ending, b"1", error, delay=delay
        )
        is_present = self.is_present(claimed)
        assert self.model.conclude(end, self.now) == is_present
        if is_present:
            self.sqlite.conclude(end)

    @rule(owner=st.sampled_from(OWNERS), is_dead=st.booleans())
    def release(self, owner: str, is_dead: bool) -> None:
        self.model.release(owner, self.now, is_dead=is_dead)
        self.sqlite.release(owner, is_dead=is_dead)

    @precondition(lambda self: self.count)
    @rule(data=st.data(), stop=st.booleans())
    def cancel(self, data: st.DataObject, stop: bool) -> None:
        id = f"j{data.draw(st.integers(1, self.count))}"
        self.model.cancel(id, self.now, stop=stop)
        rows.sweep(self.sqlite.at, self.now)
        rows.cancel(self.sqlite.at, id, stop=stop)

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        id = f"j{data.draw(st.integers(1, self.count))}"
        rows.sweep(self.sqlite.at, self.now)
        try:
            expected = self.model.redrive(id, self.now)
        except JobConflict:
            with pytest.raises(JobConflict):
                rows.redrive(self.sqlite.at, id)
        else:
            assert rows.redrive(self.sqlite.at, id) == expected

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        id = f"j{data.draw(st.integers(1, self.count))}"
        self.model.sweep(self.now)
        rows.sweep(self.sqlite.at, self.now)
        assert rows.delete(self.sqlite.at, id) == self.model.delete(id)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), progress=st.sampled_from((0.25, 0.5)))
    def report(self, data: st.DataObject, progress: float) -> None:
        claimed = data.draw(st.sampled_from(self.claims))
        said = Progress(progress, "half", b'{"a": 1}')
        if self.model.report(claimed.id, claimed.owner, claimed.number, *said):
            rows.report(self.sqlite.at, [(self.sqlite.seq(claimed.id), said)])

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        if paused:
            self.model.pause("q", self.now + 2.0)
            rows.pause(self.sqlite.at, "q", self.now + 2.0)
        else:
            self.model.resume("q")
            rows.resume(self.sqlite.at, "q")

    @rule(seconds=st.sampled_from((0.5, 1.0, 4.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def is_present(self, claimed: Claimed) -> bool:
        """A client forgets what it gave back: the rows are asked for the present claim alone."""
        job = self.model.get(claimed.id, self.now)
        rows.sweep(self.sqlite.at, self.now)
        return job is not None and job.is_of(claimed.owner, claimed.number)

    @invariant()
    def both_know_the_same_jobs(self) -> None:
        rows.sweep(self.sqlite.at, self.now)
        expected = [shown(job) for job in self.model.list(self.now, limit=1000)]
        found = rows.listed(self.sqlite.at, limit=1000)
        assert [seen(info) for info in found] == expected
        assert rows.counted(self.sqlite.at) == self.model.count(self.now)
        for status in Status:
            listed = rows.listed(self.sqlite.at, status=status, limit=1000)
            assert listed == [info for info in found if info.status is status]
        for job in self.model.list(self.now, limit=1000):
            one = rows.get(self.sqlite.at, job.id)
            assert one
            if job.status is Status.QUEUED and not job.in_hand and one.not_before is None:
                assert one.ahead is not None
        (messages, contents) = self.sqlite.at.execute(
            "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM content)"
        ).fetchone()
        assert messages == contents == sum(info.status is not Status.FINISHED for info in found), (
            "a message without a job, or a job without its message"
        )


def shown(job: Any) -> tuple[Any, ...]:
    asked = job.cancel_requested or job.stop_requested
    return (
        job.id, job.status, job.attempt, job.begun, job.ended, job.outcome, job.progress,
        job.note, asked, [run[:1] + run[2:] for run in job.runs],
    )  # fmt: skip


def seen(info: Any) -> tuple[Any, ...]:
    return (
        info.id, info.status, info.attempts, info.begun, info.ended, info.outcome, info.progress,
        info.note, info.cancel_requested, [run[:1] + run[2:] for run in info.runs],
    )  # fmt: skip


def test_what_a_dead_owner_says_of_a_job_has_no_effect() -> None:
    """It stood still for so long that others thought it dead."""
    store, (first, second) = SQLite(), OWNERS
    store.put(NewJob("a", "task", "q", b"[]"))
    seq = store.seq("a")
    store.claim(first, 1, 0.0)
    store.release(first, is_dead=True)
    assert store.claim(second, 1, 0.0) == ["a"]
    said = Pending(deleted=[seq], begun=[(seq, "w")], answers={seq: Answer(b"1")})
    said.write(store.owners[first], store.at, with_jobs=True)
    info = rows.get(store.at, "a")
    assert info
    assert (info.status, info.outcome, info.runs) == (Status.QUEUED, b"", ())
    Pending(deleted=[seq], answers={seq: Answer(b"2")}).write(
        store.owners[second], store.at, with_jobs=True
    )
    info = rows.get(store.at, "a")
    assert info
    assert (info.status, info.outcome) == (Status.FINISHED, b"2")
    store.at.close()


def test_each_queue_keeps_its_last_finished_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "FINISHED_MAX", 3)
    store, owner = SQLite(), OWNERS[0]
    for number in range(1, 4097):
        store.put(NewJob(f"j{number}", "task", "q", b"[]"))
    store.claim(owner, 5000, 0.0)
    done = [(seq, Answer(b"1")) for seq in range(1, 4097)]
    Pending(deleted=[seq for seq, _ in done], answers=dict(done)).write(
        store.owners[owner], store.at, with_jobs=True
    )
    kept = [info.id for info in rows.listed(store.at, status=Status.FINISHED, limit=10)]
    assert kept == ["j4094", "j4095", "j4096"]
    store.at.close()


TestAlike = Alike.TestCase
TestAlike.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
