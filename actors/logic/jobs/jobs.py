"""A store of jobs in memory: each public method is one transition, and all of it or nothing.

It is the model that every store follows, and itself the store of the stage in memory. Nothing here
reads a clock: `now` is the store's time, in seconds.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from math import inf

from actors.logic.jobs.job import (
    OUTCOME_KEPT_S,
    Claimed,
    Conclusion,
    Conflict,
    Ending,
    Event,
    Job,
    NewJob,
    Run,
    State,
    Status,
    UniqueKey,
    Until,
)

#: Finished jobs of a queue that are kept; the oldest go.
FINISHED_MAX = 100_000

#: Why a job failed that nobody ran to its end.
EXPIRED = "TaskExpired"
LOST = "Lost"

_EVENTS = {
    Ending.FINISHED: Event.FINISH,
    Ending.RETRY: Event.RETRY,
    Ending.SNOOZE: Event.SNOOZE,
    Ending.FAILED: Event.FAIL,
    Ending.STOPPED: Event.STOP,
}


class JobConflict(Exception):
    """The unique key of a job is taken; `holder` is the id of the job that has it."""

    def __init__(self, key: str, holder: str) -> None:
        super().__init__(f"job {holder} has the unique key {key!r}")
        self.holder = holder


class Jobs:
    """The jobs of all queues, with what is unique, paused and kept."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._keys: dict[str, tuple[str, float]] = {}  # (job, end), by key
        self._paused: dict[str, float] = {}  # until when, by queue
        self._sequence = itertools.count(1)

    # ── in ────────────────────────────────────────────────────────────────────

    def put(self, jobs: Sequence[NewJob], now: float) -> list[str]:
        """Stores all or none; returns an id for each: its own, or that of the job there is.

        Raises:
            JobConflict: a unique key is taken, and its job asked for this.
        """
        self.sweep(now)
        keys = dict(self._keys)
        added: dict[str, NewJob] = {}
        replaced: list[Job] = []
        ids: list[str] = []
        for new in jobs:
            is_new = new.id not in self._jobs and new.id not in added
            if is_new and (holder := self._holder(new, keys, now)):
                assert new.unique
                old = self._jobs.get(holder)
                if new.unique.conflict is Conflict.RAISE:
                    raise JobConflict(new.unique.key, holder)
                if new.unique.conflict is Conflict.REPLACE and old and old.waits:
                    replaced.append(old)
                else:
                    ids.append(holder)
                    continue
            ids.append(new.id)
            if is_new:
                added[new.id] = new
                if new.unique:
                    keys[new.unique.key] = new.id, _end_of(new.unique, now)
        for old in replaced:
            self._cancel(old, now)
        self._keys = keys
        for new in added.values():
            self._add(new, now)
        return ids

    def _holder(self, new: NewJob, keys: dict[str, tuple[str, float]], now: float) -> str:
        """The id of the job that has the unique key of a new one; empty: none."""
        if new.unique is None or new.unique.key not in keys:
            return ""
        holder, end = keys[new.unique.key]
        return holder if now < end else ""

    def _add(self, new: NewJob, now: float) -> None:
        not_before = max(new.at, now + new.delay if new.delay else -inf)
        job = Job(new, next(self._sequence), now, not_before, now + new.expires, meta=new.meta)
        job.on_event(Event.SCHEDULE if not_before > now else Event.QUEUE)
        self._jobs[new.id] = job

    # ── to an owner and back ──────────────────────────────────────────────────

    def claim(self, queue: str, owner: str, count: int, now: float) -> list[Claimed]:
        """Hands the next jobs of a queue to an owner, unless the queue is paused."""
        self.sweep(now)
        if self.is_paused(queue, now):
            return []
        ready = (j for j in self._jobs.values() if j.state is State.QUEUED and j.new.queue == queue)
        claimed = []
        for job in sorted(ready, key=lambda job: job.place)[:count]:
            job.on_event(Event.CLAIM)
            job.owner, job.number, job.attempt = owner, job.number + 1, job.attempt + 1
            claimed.append(Claimed(job.id, owner, job.number, job.attempt, job.new.body, job.meta))
        return claimed

    def begin(self, id: str, owner: str, number: int, worker: str, now: float) -> bool:
        """Whether a job may begin now: not where it was canceled, has expired, or is another's."""
        job = self._jobs.get(id)
        if job is None or not job.is_of(owner, number) or job.state is State.STARTED:
            return False
        if job.cancel_requested:
            self._cancel(job, now)
            return False
        if now > job.expires:
            self._end(job, Event.FAIL, now, error=EXPIRED)
            return False
        self.note_begin(id, owner, number, worker, now)
        return True

    def note_begin(self, id: str, owner: str, number: int, worker: str, now: float) -> None:
        """A job has begun by what its owner knew: who canceled it came too late, but to stop it."""
        job = self._jobs.get(id)
        if job is None or not job.is_of(owner, number) or job.state is State.STARTED:
            return
        job.cancel_requested = False
        job.on_event(Event.BEGIN)
        job.begun, job.worker = now, worker
        if job.new.unique and job.new.unique.until is Until.BEGUN:
            self._free(job)

    def conclude(self, end: Conclusion, now: float) -> bool:
        """Ends a run, with all that follows; False: it is stale, and changes nothing.

        A job that is to stop, or was canceled before it began, does not come back; what it ended
        with before stands.
        """
        job = self._jobs.get(end.job)
        if job is None or not job.is_of(end.owner, end.number):
            return False
        if end.progress is not None:
            job.progress, job.note, job.meta = end.progress
        begun = now - end.seconds if job.begun is None else job.begun
        job.worker = end.worker or job.worker
        ending = end.ending
        comes_back = ending in (Ending.RETRY, Ending.SNOOZE)
        if job.stop_requested and comes_back:
            ending = Ending.STOPPED
        job.runs.append(Run(job.attempt, job.worker, begun, now, end.error))
        if job.cancel_requested and comes_back:
            self._cancel(job, now)
        elif ending in (Ending.RETRY, Ending.SNOOZE):
            job.on_event(_EVENTS[ending])
            job.attempt -= ending is Ending.SNOOZE
            self._leave_hand(job)
            job.not_before, job.error = now + end.delay, end.error
            self.sweep(now)
        else:
            job.begun = begun
            self._end(job, _EVENTS[ending], now, outcome=end.outcome, error=end.error)
        return True

    def release(self, owner: str, now: float, *, is_dead: bool) -> list[str]:
        """Gives back what an owner holds, each to its old place; returns the ids.

        A drain counts no attempt. A job that may run once at the most has failed where it has
        begun, and with a dead owner, of whom nobody knows what it began.
        """
        held = [job for job in self._jobs.values() if job.in_hand and job.owner == owner]
        for job in held:
            self.give_back(job.id, owner, job.number, now, is_dead=is_dead)
        return [job.id for job in held]

    def give_back(self, id: str, owner: str, number: int, now: float, *, is_dead: bool) -> None:
        """`release` of one job; of a claim that is stale, nothing."""
        job = self._jobs.get(id)
        if job is not None and job.is_of(owner, number):
            if job.cancel_requested:
                self._cancel(job, now)
            elif job.stop_requested:
                self._end(job, Event.STOP, now)
            elif job.new.at_most_once and (is_dead or job.state is State.STARTED):
                self._end(job, Event.FAIL, now, error=LOST)
            else:
                job.on_event(Event.RELEASE)
                job.attempt -= not is_dead
                self._leave_hand(job)

    def report(
        self, id: str, owner: str, number: int, progress: float, note: str, meta: bytes
    ) -> bool:
        """The progress of a run; False: it is stale."""
        job = self._jobs.get(id)
        if job is None or not job.is_of(owner, number):
            return False
        job.progress, job.note, job.meta = progress, note, meta
        return True

    # ── people ────────────────────────────────────────────────────────────────

    def cancel(self, id: str, now: float, *, stop: bool = False) -> Job | None:
        """Cancels what waits at once, and asks the owner of what it holds; None: no such job.

        A job that has begun goes on, unless `stop` is given; one that has ended stays as it is.
        """
        self.sweep(now)
        job = self._jobs.get(id)
        if job is None:
            return None
        if job.waits:
            self._cancel(job, now)
        elif job.state is State.HELD:
            job.cancel_requested, job.stop_requested = True, job.stop_requested or stop
        elif job.state is State.STARTED and stop:
            job.stop_requested = True
        return job

    def redrive(self, id: str, now: float) -> bool:
        """Queues a job again that failed, was stopped or canceled, its attempts from 0.

        Raises:
            JobConflict: another job has its unique key meanwhile.
        """
        self.sweep(now)
        job = self._jobs.get(id)
        if job is None or not job.has_ended or job.state is State.FINISHED:
            return False
        if job.new.unique:
            holder = self._holder(job.new, self._keys, now)
            if holder and holder != id:
                raise JobConflict(job.new.unique.key, holder)
            self._keys[job.new.unique.key] = id, _end_of(job.new.unique, now)
        job.on_event(Event.REDRIVE)
        job.attempt, job.error, job.outcome, job.progress, job.note = 0, "", b"", 0.0, ""
        job.begun, job.ended, job.keep_until = None, None, inf
        job.not_before, job.expires = now, inf  # people queue it again
        return True

    def delete(self, id: str) -> bool:
        """Forgets a job that has ended; False: there is none, or it goes on."""
        job = self._jobs.get(id)
        if job is None or not job.has_ended:
            return False
        del self._jobs[id]
        return True

    def pause(self, queue: str, until: float = inf) -> None:
        """Hands out nothing of a queue; what has begun goes on."""
        self._paused[queue] = until

    def resume(self, queue: str) -> None:
        self._paused.pop(queue, None)

    def paused(self, now: float) -> dict[str, float]:
        """When each pause ends, by queue."""
        return {queue: until for queue, until in self._paused.items() if now < until}

    def next_due(self) -> float | None:
        """When a job that waits is due next, or a pause ends."""
        times = [job.not_before for job in self._jobs.values() if job.state is State.SCHEDULED]
        times += [job.expires for job in self._jobs.values() if job.waits and job.expires < inf]
        times += [until for until in self._paused.values() if until < inf]
        return min(times, default=None)

    def asked(self, owner: str) -> list[Job]:
        """Jobs in an owner's hand that somebody cancels."""
        return [
            job
            for job in self._jobs.values()
            if job.owner == owner and (job.cancel_requested or job.stop_requested)
        ]

    def is_paused(self, queue: str, now: float) -> bool:
        return now < self._paused.get(queue, -inf)

    # ── questions ─────────────────────────────────────────────────────────────

    def get(self, id: str, now: float) -> Job | None:
        self.sweep(now)
        return self._jobs.get(id)

    def ahead(self, job: Job) -> int | None:
        """The jobs of its queue that are claimed before one that waits for that; None: it does
        not."""
        if job.state is not State.QUEUED:
            return None
        ready = (j for j in self._jobs.values() if j.state is State.QUEUED)
        return sum(j.new.queue == job.new.queue and j.place < job.place for j in ready)

    def list(
        self,
        now: float,
        *,
        status: Status | None = None,
        task: str = "",
        queue: str = "",
        limit: int = 100,
    ) -> list[Job]:
        """Jobs in the order in which they were put."""
        self.sweep(now)

        def wanted(job: Job) -> bool:
            return (
                (status is None or job.status is status)
                and (not task or job.new.task == task)
                and (not queue or job.new.queue == queue)
            )

        return list(itertools.islice(filter(wanted, self._jobs.values()), limit))

    def count(self, now: float) -> Counter[tuple[str, Status]]:
        """The number of jobs by queue and status."""
        self.sweep(now)
        return Counter((job.new.queue, job.status) for job in self._jobs.values())

    # ── time ──────────────────────────────────────────────────────────────────

    def sweep(self, now: float) -> None:
        """Ripens what is due, ends what has expired, and forgets what was kept long enough."""
        for job in list(self._jobs.values()):
            if job.waits and now > job.expires:
                self._end(job, Event.FAIL, now, error=EXPIRED)
            elif job.state is State.SCHEDULED and now >= job.not_before:
                job.on_event(Event.RIPEN)
            if job.has_ended and now >= job.keep_until:
                del self._jobs[job.id]
        self._keys = {key: held for key, held in self._keys.items() if now < held[1]}

    def _end(
        self, job: Job, event: Event, now: float, *, outcome: bytes = b"", error: str = ""
    ) -> None:
        job.on_event(event)
        self._leave_hand(job)
        job.ended, job.outcome, job.error = now, outcome, error
        if job.new.unique and isinstance(job.new.unique.until, Until):
            self._free(job)
        fails = job.state in (State.FAILED, State.STOPPED)
        kept = job.new.failure_ttl if fails else job.new.result_ttl
        job.keep_until = now + max(kept, OUTCOME_KEPT_S if job.new.is_call else 0.0)
        if job.keep_until <= now:
            del self._jobs[job.id]
        elif job.state is State.FINISHED and len(self._jobs) > FINISHED_MAX:
            self._bound(job.new.queue)

    def _cancel(self, job: Job, now: float) -> None:
        self._end(job, Event.CANCEL, now)

    def _leave_hand(self, job: Job) -> None:
        job.owner, job.cancel_requested, job.stop_requested = "", False, False
        if not job.has_ended:
            job.begun = None

    def _free(self, job: Job) -> None:
        assert job.new.unique
        if self._keys.get(job.new.unique.key, ("", 0.0))[0] == job.id:
            del self._keys[job.new.unique.key]

    def _bound(self, queue: str) -> None:
        jobs = (job for job in self._jobs.values() if job.new.queue == queue)
        finished = [job for job in jobs if job.state is State.FINISHED]
        for job in sorted(finished, key=lambda job: job.ended or 0.0)[:-FINISHED_MAX]:
            del self._jobs[job.id]


def _end_of(unique: UniqueKey, now: float) -> float:
    return inf if isinstance(unique.until, Until) else now + unique.until
