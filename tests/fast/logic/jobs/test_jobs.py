"""Each transition of a job, with its guard and all that follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from actors.logic.jobs import jobs as module
from actors.logic.jobs.job import (
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
from actors.logic.jobs.jobs import EXPIRED, LOST, JobConflict, Jobs


def new(id: str = "a", **more: Any) -> NewJob:
    return NewJob(id, "resize", "images", b"message", **more)


def jobs(*new_jobs: NewJob, now: float = 0.0) -> Jobs:
    store = Jobs()
    store.put(new_jobs or [new()], now)
    return store


def status(store: Jobs, id: str = "a", now: float = 0.0) -> Status:
    job = store.get(id, now)
    assert job
    return job.status


def claim(store: Jobs, now: float = 0.0, owner: str = "one", count: int = 1) -> list[Claimed]:
    return store.claim("images", owner, count, now)


def begun(store: Jobs, now: float = 0.0, owner: str = "one") -> Claimed:
    (claimed,) = claim(store, now, owner)
    assert store.begin(claimed.id, owner, claimed.number, "worker", now)
    return claimed


def ended(claimed: Claimed, ending: Ending, **more: Any) -> Conclusion:
    return Conclusion(claimed.id, claimed.owner, claimed.number, ending, **more)


def test_a_job_goes_from_its_queue_to_its_outcome() -> None:
    store = jobs()
    assert status(store) is Status.QUEUED
    (claimed,) = claim(store)
    assert (claimed.attempt, claimed.body, status(store)) == (1, b"message", Status.QUEUED)
    assert store.begin("a", "one", claimed.number, "worker", 1.0)
    assert status(store) is Status.STARTED
    assert store.conclude(
        ended(claimed, Ending.FINISHED, outcome=b"1", progress=Progress(0.5, "", b'{"n":1}')), 2.0
    )
    job = store.get("a", 2.0)
    assert job
    assert (job.status, job.outcome, job.meta) == (Status.FINISHED, b"1", b'{"n":1}')
    assert [(run.attempt, run.begun, run.ended, run.error) for run in job.runs] == [
        (1, 1.0, 2.0, "")
    ]


def test_the_same_id_is_the_same_job_and_many_are_put_in_order() -> None:
    store = jobs(new("a"), new("b"), new("a"))
    assert store.put([new("b"), new("c")], 0.0) == ["b", "c"]
    assert [job.id for job in store.list(0.0)] == ["a", "b", "c"]
    assert store.count(0.0) == {("images", Status.QUEUED): 3}


def test_claims_go_by_priority_and_then_by_place_and_a_retry_keeps_its_place() -> None:
    store = jobs(new("a"), new("b"), new("c", priority=9))
    first = claim(store, count=2)
    assert [claimed.id for claimed in first] == ["c", "a"]
    store.conclude(ended(first[1], Ending.RETRY, error="no"), 0.0)
    assert [claimed.id for claimed in claim(store, count=9)] == ["a", "b"]


def test_nothing_is_claimed_before_its_time_and_nothing_begins_after_it() -> None:
    store = jobs(new("a", at=5.0), new("b", expires=3.0))
    assert status(store) is Status.SCHEDULED
    (claimed,) = claim(store, 2.0, count=9)
    assert claimed.id == "b"
    assert not store.begin("b", "one", claimed.number, "worker", 3.5)
    assert status(store, "b", 3.5) is Status.FAILED
    assert [claimed.id for claimed in claim(store, 5.0)] == ["a"]
    waiting = jobs(new("a", expires=3.0))
    job = waiting.get("a", 3.1)
    assert job
    assert (job.status, job.error) == (Status.FAILED, EXPIRED)


def test_what_is_said_of_an_old_claim_is_stale() -> None:
    store = jobs()
    first = begun(store)
    assert store.release("one", 0.0, is_dead=True) == ["a"]
    second = begun(store, owner="two")
    assert second.attempt == 2
    assert not store.conclude(ended(first, Ending.FINISHED), 0.0)
    assert not store.report("a", "one", first.number, 0.5, "", b"{}")
    assert not store.begin("a", "one", first.number, "worker", 0.0)
    assert not store.begin("a", "two", second.number, "worker", 0.0), "it has begun"
    assert store.conclude(ended(second, Ending.FINISHED), 0.0)
    assert not store.conclude(ended(second, Ending.FAILED), 0.0), "an outcome is one"


def test_a_drain_counts_no_attempt_and_a_death_counts_one() -> None:
    store = jobs()
    claim(store)
    store.release("one", 0.0, is_dead=False)
    assert claim(store)[0].attempt == 1
    store.release("one", 0.0, is_dead=True)
    assert claim(store)[0].attempt == 2


def test_what_may_run_once_is_lost_with_its_owner() -> None:
    store = jobs(new(at_most_once=True))
    claim(store)
    store.release("one", 0.0, is_dead=False)
    claim(store)
    store.release("one", 0.0, is_dead=True)
    job = store.get("a", 0.0)
    assert job
    assert (job.status, job.error) == (Status.FAILED, LOST)
    store = jobs(new(at_most_once=True))
    begun(store)
    store.release("one", 0.0, is_dead=False)
    assert status(store) is Status.FAILED, "it has begun, and did not end with its owner's drain"


def test_a_snooze_counts_no_attempt_and_waits_as_a_retry_does() -> None:
    store = jobs()
    store.conclude(ended(begun(store), Ending.SNOOZE, delay=10.0), 0.0)
    assert (status(store), claim(store)) == (Status.SCHEDULED, [])
    again = begun(store, 10.0)
    assert again.attempt == 1
    store.conclude(ended(again, Ending.RETRY, delay=5.0, error="no"), 10.0)
    assert claim(store, 15.0)[0].attempt == 2


def test_cancel_has_its_five_meanings() -> None:
    for waiting in (new(at=9.0), new()):
        store = jobs(waiting)
        store.cancel("a", 0.0)
        assert (status(store), claim(store, 10.0)) == (Status.CANCELED, [])
    store = jobs()
    (held,) = claim(store)
    store.cancel("a", 0.0)
    assert status(store) is Status.QUEUED
    assert not store.begin("a", "one", held.number, "worker", 0.0)
    assert status(store) is Status.CANCELED
    store = jobs()
    claimed = begun(store)
    store.cancel("a", 0.0)
    assert store.conclude(ended(claimed, Ending.FINISHED), 0.0)
    assert status(store) is Status.FINISHED
    store.cancel("a", 0.0, stop=True)
    assert status(store) is Status.FINISHED
    assert store.cancel("unknown", 0.0) is None


def test_a_stopped_job_never_retries_and_a_true_outcome_stands() -> None:
    for ending, expected in (
        (Ending.RETRY, Status.STOPPED),
        (Ending.SNOOZE, Status.STOPPED),
        (Ending.STOPPED, Status.STOPPED),
        (Ending.FINISHED, Status.FINISHED),
        (Ending.FAILED, Status.FAILED),
    ):
        store = jobs()
        claimed = begun(store)
        store.cancel("a", 0.0, stop=True)
        store.conclude(ended(claimed, ending), 0.0)
        assert status(store) is expected
    store = jobs()
    begun(store)
    store.cancel("a", 0.0, stop=True)
    store.release("one", 0.0, is_dead=True)
    assert status(store) is Status.STOPPED


def test_a_job_that_was_canceled_before_it_began_does_not_come_back() -> None:
    store = jobs()
    claim(store)
    store.cancel("a", 0.0)
    store.release("one", 0.0, is_dead=True)
    assert status(store) is Status.CANCELED
    store = jobs()
    (claimed,) = claim(store)
    store.cancel("a", 0.0)
    assert store.conclude(ended(claimed, Ending.RETRY), 0.0)
    assert status(store) is Status.CANCELED


def test_a_job_that_is_queued_again_runs_at_once() -> None:
    store = jobs(new("a", at=60.0))
    store.cancel("a", 0.0)
    assert store.redrive("a", 1.0)
    assert claim(store, 1.0)


KEY = UniqueKey("user 1")


def test_a_unique_key_is_held_over_retries_and_freed_by_any_end() -> None:
    for ending in (Ending.FINISHED, Ending.FAILED, Ending.STOPPED):
        store = jobs(new("a", unique=KEY))
        store.conclude(ended(begun(store), Ending.RETRY), 0.0)
        assert store.put([new("b", unique=KEY)], 0.0) == ["a"]
        store.conclude(ended(begun(store), ending), 0.0)
        assert store.put([new("b", unique=KEY)], 0.0) == ["b"]
    store = jobs(new("a", unique=KEY))
    store.cancel("a", 0.0)
    assert store.put([new("b", unique=KEY)], 0.0) == ["b"]


def test_a_unique_key_lasts_until_its_job_begins_or_for_a_time() -> None:
    begins = KEY._replace(until=Until.BEGUN)
    store = jobs(new("a", unique=begins))
    assert store.put([new("b", unique=begins)], 0.0) == ["a"]
    begun(store)
    assert store.put([new("b", unique=begins)], 0.0) == ["b"]
    minute = KEY._replace(until=60.0)
    store = jobs(new("a", unique=minute))
    store.conclude(ended(begun(store), Ending.FINISHED), 1.0)
    assert store.put([new("b", unique=minute)], 59.0) == ["a"], "it outlasts the job"
    assert store.put([new("b", unique=minute)], 60.0) == ["b"]


def test_a_conflict_raises_and_stores_nothing_or_replaces_what_waits() -> None:
    store = jobs(new("a", unique=KEY))
    raising = KEY._replace(conflict=Conflict.RAISE)
    with pytest.raises(JobConflict, match="job a has the unique key 'user 1'"):
        store.put([new("x"), new("b", unique=raising)], 0.0)
    assert [job.id for job in store.list(0.0)] == ["a"]
    replacing = KEY._replace(conflict=Conflict.REPLACE)
    assert store.put([new("b", unique=replacing)], 0.0) == ["b"]
    assert status(store, "a") is Status.CANCELED
    begun(store)
    assert store.put([new("c", unique=replacing)], 0.0) == ["b"], "what is in hand stays"


def test_redrive_begins_anew_and_asks_for_the_key_again() -> None:
    store = jobs(new("a", unique=KEY, expires=5.0))
    store.conclude(ended(begun(store), Ending.FAILED, error="no"), 0.0)
    store.put([new("b", unique=KEY)], 0.0)
    with pytest.raises(JobConflict):
        store.redrive("a", 9.0)
    store.cancel("b", 9.0)
    assert store.redrive("a", 9.0)
    assert not store.redrive("a", 9.0), "it waits"
    (claimed,) = claim(store, 9.0)
    assert (claimed.id, claimed.attempt) == ("a", 1)


def test_results_are_kept_for_their_time_and_failures_until_they_are_deleted() -> None:
    store = jobs(new("a", result_ttl=10.0), new("b", result_ttl=0.0), new("c"))
    for ending in (Ending.FINISHED, Ending.FINISHED, Ending.FAILED):
        store.conclude(ended(begun(store), ending), 0.0)
    assert [job.id for job in store.list(9.9)] == ["a", "c"]
    assert [job.id for job in store.list(1e9)] == ["c"]
    assert store.delete("c")
    assert not store.delete("c")
    assert not jobs().delete("a"), "it waits"


def test_a_queue_keeps_its_newest_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FINISHED_MAX", 2)
    store = jobs(*(new(id) for id in "abcd"))
    for now in range(4):
        store.conclude(ended(begun(store), Ending.FINISHED), float(now))
    assert [job.id for job in store.list(4.0)] == ["c", "d"]


def test_a_paused_queue_hands_out_nothing_until_it_is_resumed_or_its_time_is_over() -> None:
    store = jobs(new("a"), replace(new("b"), queue="other"))
    store.pause("images")
    assert claim(store, 1e9) == []
    assert store.claim("other", "one", 1, 0.0)
    store.resume("images")
    store.pause("images", until=5.0)
    assert claim(store, 4.9) == []
    assert claim(store, 5.0)


def test_progress_and_meta_survive_a_retry() -> None:
    store = jobs()
    claimed = begun(store)
    assert store.report("a", "one", claimed.number, 0.5, "half", b'{"done":1}')
    store.conclude(ended(claimed, Ending.RETRY), 0.0)
    (again,) = claim(store)
    job = store.get("a", 0.0)
    assert job
    assert (job.progress, job.note, again.meta) == (0.5, "half", b'{"done":1}')


def test_jobs_are_listed_by_status_task_and_queue() -> None:
    store = jobs(new("a"), replace(new("b"), task="other"), replace(new("c"), queue="more"))
    store.cancel("a", 0.0)
    assert [job.id for job in store.list(0.0, status=Status.QUEUED)] == ["b", "c"]
    assert [job.id for job in store.list(0.0, task="resize")] == ["a", "c"]
    assert [job.id for job in store.list(0.0, queue="more", limit=1)] == ["c"]
