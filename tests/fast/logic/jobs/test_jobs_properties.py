"""Whatever callers, owners and people do, in whatever order: each job has one outcome."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.logic.jobs.job import (
    Claimed,
    Conclusion,
    Conflict,
    Ending,
    NewJob,
    Status,
    UniqueKey,
    Until,
)
from actors.logic.jobs.jobs import JobConflict, Jobs

OWNERS = ("one", "two")
ENDED = {Status.FINISHED, Status.FAILED, Status.STOPPED, Status.CANCELED}

delays = st.sampled_from((0.0, 1.0, 5.0))
uniques = st.none() | st.builds(
    UniqueKey,
    st.sampled_from("xy"),
    st.sampled_from((Until.ENDED, Until.BEGUN, 3.0)),
    st.sampled_from(Conflict),
)


class Store(RuleBasedStateMachine):
    """Claims live on here as their owners have them, stale ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = Jobs()
        self.now = 0.0
        self.count = 0
        self.claims: list[Claimed] = []
        self.living: dict[str, Claimed] = {}  # by job: the claim that may conclude
        self.began: dict[str, int] = {}  # times
        self.canceled: set[str] = set()  # before they began, since they were queued last
        self.outcomes: dict[str, Status] = {}

    # ── callers ───────────────────────────────────────────────────────────────

    @rule(
        delay=delays,
        expires=st.sampled_from((2.0, 1e9)),
        priority=st.integers(0, 2),
        once=st.booleans(),
        unique=uniques,
    )
    def put(
        self, delay: float, expires: float, priority: int, once: bool, unique: UniqueKey | None
    ) -> None:
        self.count += 1
        id = str(self.count)
        job = NewJob(
            id, "task", "q", b"", priority=priority, delay=delay, expires=expires,
            result_ttl=1e9, at_most_once=once, unique=unique,
        )  # fmt: skip
        before = {one.id: one for one in self.jobs.list(self.now, limit=1000)}
        try:
            (given,) = self.jobs.put([job], self.now)
        except JobConflict:
            assert unique
            assert unique.conflict is Conflict.RAISE
            assert self.jobs.get(id, self.now) is None
            return
        if given != id:
            assert unique
            assert self.jobs.get(id, self.now) is None
        for old in before.values():
            if old.status is Status.CANCELED and old.id not in self.outcomes:
                assert unique
                assert unique.conflict is Conflict.REPLACE
                self.canceled.add(old.id)

    # ── owners ────────────────────────────────────────────────────────────────

    @rule(owner=st.sampled_from(OWNERS), count=st.integers(1, 3))
    def claim(self, owner: str, count: int) -> None:
        paused = self.jobs.is_paused("q", self.now)
        for claimed in self.jobs.claim("q", owner, count, self.now):
            assert not paused
            job = self.jobs.get(claimed.id, self.now)
            assert job
            assert job.not_before <= self.now <= job.expires
            assert claimed.id not in self.living, "two owners at once"
            assert claimed.id not in self.canceled
            self.claims.append(claimed)
            self.living[claimed.id] = claimed

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        claimed = data.draw(st.sampled_from(self.claims))
        may = self.jobs.begin(claimed.id, claimed.owner, claimed.number, "w", self.now)
        if may:
            assert self.living.get(claimed.id) is claimed
            assert claimed.id not in self.canceled, "canceled before it began"
            self.began[claimed.id] = self.began.get(claimed.id, 0) + 1
            job = self.jobs.get(claimed.id, self.now)
            assert job
            if job.new.at_most_once and not job.runs:
                assert self.began[claimed.id] == 1
        self.forget_ended()

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), ending=st.sampled_from(Ending), delay=delays)
    def conclude(self, data: st.DataObject, ending: Ending, delay: float) -> None:
        claimed = data.draw(st.sampled_from(self.claims))
        conclusion = Conclusion(
            claimed.id, claimed.owner, claimed.number, ending, b"1", delay=delay
        )
        took_effect = self.jobs.conclude(conclusion, self.now)
        assert took_effect == (self.living.get(claimed.id) is claimed)
        if took_effect:
            del self.living[claimed.id]

    @rule(owner=st.sampled_from(OWNERS), is_dead=st.booleans())
    def release(self, owner: str, is_dead: bool) -> None:
        released = set(self.jobs.release(owner, self.now, is_dead=is_dead))
        assert released == {c.id for c in self.living.values() if c.owner == owner}
        self.living = {id: c for id, c in self.living.items() if c.owner != owner}

    # ── people ────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.count)
    @rule(data=st.data(), stop=st.booleans())
    def cancel(self, data: st.DataObject, stop: bool) -> None:
        id = str(data.draw(st.integers(1, self.count)))
        before = self.jobs.get(id, self.now)
        waited = before is not None and before.status in (Status.SCHEDULED, Status.QUEUED)
        self.jobs.cancel(id, self.now, stop=stop)
        if waited:
            self.canceled.add(id)

    @precondition(lambda self: self.outcomes)
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.outcomes)))
        try:
            again = self.jobs.redrive(id, self.now)
        except JobConflict:
            return
        assert again == (self.outcomes[id] is not Status.FINISHED)
        if again:
            del self.outcomes[id]
            self.canceled.discard(id)
            self.began.pop(id, None)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        if paused:
            self.jobs.pause("q", self.now + 2.0)
        else:
            self.jobs.resume("q")

    @rule(seconds=st.sampled_from((0.5, 1.0, 4.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # ── whatever happens ──────────────────────────────────────────────────────

    def forget_ended(self) -> None:
        for id in list(self.living):
            job = self.jobs.get(id, self.now)
            if job is None or job.has_ended:
                del self.living[id]

    @invariant()
    def a_job_has_one_outcome_until_people_queue_it_again(self) -> None:
        for job in self.jobs.list(self.now, limit=1000):
            if job.status in ENDED:
                assert self.outcomes.setdefault(job.id, job.status) is job.status
                assert not job.owner
            else:
                assert job.id not in self.outcomes

    @invariant()
    def a_unique_key_has_one_holder(self) -> None:
        holders = [
            job.new.unique.key
            for job in self.jobs.list(self.now, limit=1000)
            if job.new.unique and job.new.unique.until is Until.ENDED
            if job.status not in ENDED
        ]
        assert len(holders) == len(set(holders))

    @invariant()
    def the_counts_are_those_of_the_list(self) -> None:
        listed = self.jobs.list(self.now, limit=1000)
        for status in Status:
            found = [job for job in listed if job.status is status]
            assert self.jobs.count(self.now)["q", status] == len(found)
            assert self.jobs.list(self.now, status=status, limit=1000) == found


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=40)
