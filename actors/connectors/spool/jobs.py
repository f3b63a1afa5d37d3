"""The jobs of a spool: each transition of their rows, as part of somebody's transaction.

While a job waits or is in hand its message says where it is; `status` says only what a message
cannot: that it has begun, and how it ended. `actors.logic.jobs.jobs` is the model of all this.
Times are the wall clock's, in seconds.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from actors.connectors.spool.schema import CLAIMED, DEAD, DELAYED, KEPT, READY, next_seq
from actors.logic.jobs.job import (
    OUTCOME_KEPT_S,
    RUNS_MAX,
    Answer,
    Conflict,
    NewJob,
    Progress,
    Run,
    Status,
    Until,
)
from actors.logic.jobs.jobs import EXPIRED, FINISHED_MAX, LOST, JobConflict
from actors.logic.jobs.store import AHEAD_MAX, JobInfo, shown_arguments
from actors.logic.messages.entry import Entry, check_queue

SCHEDULED, WAITS, STARTED, FINISHED, FAILED, STOPPED, CANCELED = range(-1, 6)
_STATUSES = {
    SCHEDULED: Status.SCHEDULED, WAITS: Status.QUEUED, STARTED: Status.STARTED,
    FINISHED: Status.FINISHED, FAILED: Status.FAILED, STOPPED: Status.STOPPED,
    CANCELED: Status.CANCELED,
}  # fmt: skip
_NUMBERS = {status: number for number, status in _STATUSES.items()}

META = "x-callboard-meta"  #: the header of a run after the first

CANCEL, STOP = 1, 2  #: bits of what somebody asked of a job in hand

#: What a class of an exception says to people who look at a stopped job.
_STOPPED_ERROR = "TaskStopped"

_STATUS = f"""CASE WHEN job.status >= {FINISHED} THEN job.status
    WHEN message.state = {DEAD} THEN {FAILED}
    WHEN job.status = {STARTED} AND message.state = {CLAIMED} THEN {STARTED}
    WHEN message.state = {DELAYED} AND message.not_before > :now THEN {SCHEDULED}
    ELSE {WAITS} END"""
_THESE = "seq IN (SELECT value FROM json_each(:seqs))"
#: When a job is forgotten: what somebody waits for is kept for a while at the least.
_KEPT = f"CASE WHEN waiters = '' THEN 0.0 ELSE {OUTCOME_KEPT_S} END"
_UNTIL = {
    False: f":now + max(result_ttl, {_KEPT})",
    True: f":now + max(failure_ttl, {_KEPT})",
}  # whether it failed
#: A run more: the last ten are remembered.
_RUN = f"""json_insert(CASE WHEN runs = '[]' OR json_array_length(runs) < {RUNS_MAX} THEN runs
    ELSE json_remove(runs, '$[0]') END, '$[#]', json_array(
    :attempts, coalesce(:worker, worker), coalesce(begun, :begun), :now, :error))"""
_SAID = ", progress = :progress, note = :note, meta = :meta"


class Asked(NamedTuple):
    """A job in hand that somebody cancels."""

    seq: int
    stop: bool


# ── in ────────────────────────────────────────────────────────────────────────


def put(at: Connection, jobs: Sequence[NewJob], waiter: str = "") -> list[str]:
    """Stores all or none; returns an id for each: its own, or that of the job there is.

    Raises `JobConflict` where a unique key is taken and its job asked for this, and ValueError for
    what cannot be stored.
    """
    now = time.time()
    if is_sweep_due(at):
        sweep(at, now)
    wanted = json.dumps([new.id for new in jobs])
    known = {id for (id,) in at.execute(
        "SELECT id FROM job WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
    )}  # fmt: skip
    seq = next_seq(at)
    ids: list[str] = []
    added: list[tuple[int, NewJob]] = []
    for new in jobs:
        given = new.id if new.id in known else _claim_key(at, new, now)
        ids.append(given)
        if given == new.id and new.id not in known:
            known.add(new.id)
            added.append((seq, new))
            seq += 1
    _insert(at, added, now, waiter)
    return ids


def check(new: NewJob) -> None:
    """Raises ValueError and TypeError where a job cannot be stored."""
    check_queue(new.queue)
    Entry(new.body, priority=new.priority).check()


def _insert(at: Connection, added: list[tuple[int, NewJob]], now: float, waiter: str) -> None:
    messages, contents, rows = [], [], []
    for seq, new in added:
        not_before = max(new.at, now + new.delay if new.delay else -inf)
        state = (DELAYED, not_before) if not_before > now else (READY, 0.0)
        messages.append((seq, new.queue, new.priority, *state))
        contents.append((seq, new.id, new.headers, now, new.body))
        unique = new.unique
        rows.append((
            seq, new.id, new.task, new.queue, now,
            None if new.expires == inf else now + new.expires,
            new.result_ttl, new.failure_ttl, new.at_most_once,
            unique and unique.key, unique and str(unique.until), new.priority,
            new.meta, new.description, waiter if new.is_call else "",
        ))  # fmt: skip
    at.executemany(
        "INSERT INTO message (seq, queue, priority, state, not_before) VALUES (?, ?, ?, ?, ?)",
        messages,
    )
    at.executemany("INSERT INTO content VALUES (?, ?, ?, ?, ?)", contents)
    at.executemany(
        "INSERT INTO job (seq, id, task, queue, created, expires, result_ttl, failure_ttl, once,"
        " key, key_until, priority, meta, description, waiters)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def _claim_key(at: Connection, new: NewJob, now: float) -> str:
    """The id of the job that is to stand for a new one: its own, or the holder's of its key."""
    if new.unique is None:
        return new.id
    if holder := _holder(at, new.unique.key, now):
        if new.unique.conflict is Conflict.RAISE:
            raise JobConflict(new.unique.key, holder)
        if new.unique.conflict is not Conflict.REPLACE or not _waits(at, holder):
            return holder
        cancel(at, holder)
    _take_key(at, new.unique.key, new.id, new.unique.until, now)
    return new.id


def _holder(at: Connection, key: str, now: float) -> str:
    query = "SELECT job FROM job_key WHERE key = ? AND until > ?"
    row = at.execute(query, (key, now)).fetchone()
    return row[0] if row else ""


def _take_key(at: Connection, key: str, id: str, until: Until | float | str, now: float) -> None:
    end = inf if until in (*Until,) else now + float(until)
    at.execute("INSERT OR REPLACE INTO job_key VALUES (?, ?, ?)", (key, id, end))


def _waits(at: Connection, id: str) -> bool:
    query = (
        "SELECT 1 FROM job JOIN message USING (seq)"
        f" WHERE id = ? AND status = {WAITS} AND state IN ({READY}, {DELAYED})"
    )
    return at.execute(query, (id,)).fetchone() is not None


# ── in hand ───────────────────────────────────────────────────────────────────


def begin(at: Connection, begun: Iterable[tuple[int, str]]) -> None:
    """Jobs in hand have begun, each at a worker: nobody cancels them any more but by `stop`."""
    now = time.time()
    rows = [{"seq": seq, "worker": worker, "now": now} for seq, worker in begun]
    at.executemany(
        f"UPDATE job SET status = {STARTED}, begun = :now, worker = :worker,"
        f" cancel = cancel & {STOP}, attempts = (SELECT attempts FROM message WHERE seq = :seq)"
        f" WHERE seq = :seq AND status = {WAITS}",
        rows,
    )
    seqs = json.dumps([row["seq"] for row in rows])
    at.execute(
        "DELETE FROM job_key WHERE job IN"
        f" (SELECT id FROM job WHERE {_THESE} AND key_until = '{Until.BEGUN}')",
        {"seqs": seqs},
    )


def may_begin(at: Connection, seq: int) -> bool:
    """Whether a job in hand may begin: not where it was canceled, or has expired."""
    now = time.time()
    found = at.execute(
        f"SELECT cancel & {CANCEL}, expires < ? FROM job WHERE seq = ?", (now, seq)
    ).fetchone()
    canceled, expired = found or (0, 0)
    if canceled:
        _end(at, [seq], CANCELED, now)
    elif expired:
        _end(at, [seq], FAILED, now, EXPIRED)
    return not (canceled or expired)


def with_meta(at: Connection, rows: list[Any]) -> list[Any]:
    """Rows of a claim, each with the meta that its job has from runs before, as a header."""
    values = {"seqs": json.dumps([row[0] for row in rows])}
    query = f"SELECT seq, meta FROM job WHERE {_THESE} AND meta != X'7B7D'"
    metas = dict(at.execute(query, values))
    return [
        (*row[:2], _with_header(row[2], metas[row[0]]), *row[3:]) if row[0] in metas else row
        for row in rows
    ]


def _with_header(headers: bytes | None, meta: bytes) -> bytes | None:
    try:
        return json.dumps({**json.loads(headers or b"{}"), META: json.loads(meta)}).encode()
    except (ValueError, TypeError):  # a hand wrote it: whoever reads it will say so
        return headers


def report(at: Connection, said: Iterable[tuple[int, Progress]]) -> None:
    """Jobs that go on say how far they are."""
    at.executemany(
        "UPDATE job SET progress = ?, note = ?, meta = ? WHERE seq = ?",
        [(*progress, seq) for seq, progress in said],
    )


def finish(at: Connection, done: Sequence[tuple[int, Answer]]) -> None:
    """Runs ended well. Their messages are deleted with this, by whoever settles them."""
    now = time.time()
    _conclude(at, done, FINISHED, now)
    _bound(at, done, now)


def fail(at: Connection, seq: int, answer: Answer) -> None:
    """A run ended badly for good, and its message has become a dead letter with this."""
    _conclude(at, [(seq, answer)], STOPPED if answer.is_stopped else FAILED, time.time())


def is_stopping(at: Connection, seq: int) -> bool:
    """Whether somebody stops a job: then that is why its process was killed."""
    query = "SELECT 1 FROM job WHERE seq = ? AND cancel & ?"
    return at.execute(query, (seq, STOP)).fetchone() is not None


def come_back(at: Connection, seq: int, answer: Answer) -> bool:
    """A run is to be followed by another. False: somebody canceled or stopped the job meanwhile,
    and that was its end."""
    now = time.time()
    row = at.execute("SELECT cancel FROM job WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        return True  # a message that is no job
    said = _SAID if answer.progress else ""
    at.execute(
        f"UPDATE job SET runs = {_RUN}{said}, status = {WAITS}, begun = NULL, error = :error"
        " WHERE seq = :seq",
        _values(seq, _attempts(at, [seq]).get(seq, 0), answer, now),
    )
    if row[0]:
        _end(at, [seq], CANCELED if row[0] & CANCEL else STOPPED, now)
    return not row[0]


def release(at: Connection, owner: str, seqs: Sequence[int] | None = None, *, dead: bool) -> None:
    """Ends, of what an owner is about to give back, or of these rows, whatever does not come back.

    A job that somebody cancels or stops is canceled or stopped now. One that may run once at the
    most has failed where it had begun, and always where its owner is dead, for nobody knows what
    that had begun."""
    now = time.time()
    these = "" if seqs is None else f" AND message.{_THESE}"
    rows = at.execute(
        "SELECT seq, cancel, once, status FROM job JOIN message USING (seq)"
        f" WHERE owner = :owner AND state = {CLAIMED}{these}"
        f" AND (cancel OR once OR status = {STARTED})",
        {"owner": owner, "seqs": json.dumps(list(seqs or ()))},
    ).fetchall()
    back = []
    for seq, canceled, once, status in rows:
        if canceled & CANCEL:
            _end(at, [seq], CANCELED, now)
        elif canceled & STOP:
            _end(at, [seq], STOPPED, now)
        elif once and (dead or status == STARTED):
            _end(at, [seq], FAILED, now, LOST)
        else:
            back.append(seq)
    at.execute(
        f"UPDATE job SET status = {WAITS}, begun = NULL WHERE {_THESE}", {"seqs": json.dumps(back)}
    )


def asked(at: Connection, owner: str) -> list[Asked]:
    """Jobs in an owner's hand that somebody cancels."""
    rows = at.execute(
        "SELECT seq, cancel FROM job INDEXED BY job_cancel JOIN message USING (seq)"
        f" WHERE cancel > 0 AND owner = ? AND state = {CLAIMED}",
        (owner,),
    )
    return [Asked(seq, bool(bits & STOP)) for seq, bits in rows]


def await_change(at: Connection, ids: Iterable[str], waiter: str, most: int) -> None:
    """Enter a waiter for news of these jobs; of more than `most` a job forgets the first."""
    at.executemany(
        "UPDATE job SET waiters = trim(CASE WHEN length(waiters) < ? THEN waiters"
        " ELSE substr(waiters, 18) END || ' ' || ?) WHERE id = ?",
        [(17 * most - 1, waiter, id) for id in ids],
    )


def waiters(at: Connection, seqs: Iterable[int]) -> set[str]:
    """The waiters for news of these jobs."""
    rows = at.execute(
        f"SELECT waiters FROM job WHERE {_THESE} AND waiters != ''", {"seqs": json.dumps([*seqs])}
    )
    return {name for (names,) in rows for name in names.split()}


# ── people ────────────────────────────────────────────────────────────────────


def cancel(at: Connection, id: str, *, stop: bool = False) -> str:
    """Cancels what waits; asks the owner of what is in hand, and returns its name, to be rung."""
    row = at.execute(
        "SELECT seq, status, state, owner FROM job LEFT JOIN message USING (seq) WHERE id = ?",
        (id,),
    ).fetchone()
    if row is None:
        return ""
    seq, status, state, owner = row
    if state in (READY, DELAYED):
        _end(at, [seq], CANCELED, time.time())
    elif state == CLAIMED and (status == WAITS or stop):
        bits = (CANCEL if status == WAITS else 0) | (STOP if stop else 0)
        at.execute("UPDATE job SET cancel = cancel | ? WHERE seq = ?", (bits, seq))
        return owner or ""
    return ""


def cancel_all(at: Connection, queue: str) -> None:
    """The messages of a queue that wait are about to be deleted."""
    seqs = at.execute(
        "SELECT seq FROM job JOIN message USING (seq)"
        f" WHERE message.queue = ? AND state IN ({READY}, {DELAYED})",
        (queue,),
    ).fetchall()
    _end(at, [seq for (seq,) in seqs], CANCELED, time.time())
    at.execute(f"DELETE FROM message WHERE queue = ? AND state = {KEPT}", (queue,))


def redrive(at: Connection, id: str) -> bool:
    """Queues a job again that failed, was stopped or canceled, its attempts from 0. False: there
    is none, or it is none of these. Raises `JobConflict`."""
    row = at.execute(
        f"SELECT seq FROM job JOIN message USING (seq) WHERE id = ? AND state IN ({DEAD}, {KEPT})",
        (id,),
    ).fetchone()
    if row is None:
        return False
    _again(at, row[0])
    at.execute(
        f"UPDATE message SET state = {READY}, attempts = 0, not_before = 0, died = NULL,"
        " reason = NULL, error = NULL, route = NULL WHERE seq = ?",
        row,
    )
    return True


def redrive_all(at: Connection, query: str, values: dict[str, Any], queue: str) -> None:
    """Dead letters that a query finds are about to be ready again, in a queue or in theirs."""
    for (seq,) in at.execute(f"SELECT seq FROM job WHERE seq IN ({query})", values).fetchall():
        _again(at, seq)
        if queue:
            at.execute("UPDATE job SET queue = ? WHERE seq = ?", (queue, seq))


def _again(at: Connection, seq: int) -> None:
    now = time.time()
    id, key, until = at.execute(
        "SELECT id, key, key_until FROM job WHERE seq = ?", (seq,)
    ).fetchone()
    if key is not None:
        if (holder := _holder(at, key, now)) and holder != id:
            raise JobConflict(key, holder)
        _take_key(at, key, id, until, now)
    at.execute(
        f"UPDATE job SET status = {WAITS}, cancel = 0, expires = NULL, begun = NULL, ended = NULL,"
        " until = NULL, attempts = 0, error = '', outcome = NULL, progress = 0, note = ''"
        " WHERE seq = ?",
        (seq,),
    )


def delete(at: Connection, id: str) -> bool:
    """Forgets a job that has ended; False: there is none, or it goes on."""
    found = at.execute(
        f"SELECT seq FROM job LEFT JOIN message USING (seq) WHERE id = ?"
        f" AND (status >= {FINISHED} OR state = {DEAD})",
        (id,),
    ).fetchone()
    if found is None:
        return False
    at.execute("DELETE FROM message WHERE seq = ?", found)
    at.execute("DELETE FROM job WHERE seq = ?", found)
    return True


def pause(at: Connection, queue: str, until: float) -> None:
    at.execute("INSERT OR REPLACE INTO paused VALUES (?, ?)", (queue, until))


def resume(at: Connection, queue: str) -> None:
    at.execute("DELETE FROM paused WHERE queue = ?", (queue,))


def paused(at: Connection) -> dict[str, float]:
    """When each pause ends, by queue."""
    return dict(at.execute("SELECT queue, until FROM paused WHERE until > ?", (time.time(),)))


# ── questions ─────────────────────────────────────────────────────────────────

_INFO = f"""
SELECT job.id, job.task, job.queue, {_STATUS} AS status, job.created,
    CASE WHEN message.state = {DELAYED} THEN message.not_before END AS not_before,
    job.begun, job.ended, coalesce(message.attempts, job.attempts) AS attempts, job.worker,
    job.priority, job.description, job.progress, job.note, job.meta,
    CASE WHEN job.error = '' THEN coalesce(message.error, '') ELSE job.error END AS error,
    job.outcome, job.runs, job.cancel > 0 AS cancel_requested, job.expires
FROM job LEFT JOIN message USING (seq)"""


def get(at: Connection, id: str) -> JobInfo | None:
    """A job; None: there is none."""
    found = _infos(at, f"{_INFO} WHERE job.id = :id", {"id": id})
    if not found:
        return None
    kept = at.execute(
        "SELECT CAST(body AS BLOB), CAST(headers AS BLOB) FROM content JOIN job USING (seq)"
        " WHERE job.id = ?",
        (id,),
    ).fetchone()
    arguments = shown_arguments(*kept) if kept else b""
    return replace(found[0], arguments=arguments, ahead=_ahead(at, id))


def look(at: Connection, ids: Iterable[str]) -> dict[str, JobInfo]:
    """Those jobs of these that there are."""
    query = f"{_INFO} WHERE job.id IN (SELECT value FROM json_each(:ids))"
    return {info.id: info for info in _infos(at, query, {"ids": json.dumps(list(ids))})}


def _ahead(at: Connection, id: str) -> int | None:
    """Messages of its queue that are handed out before a job that waits for that."""
    place = at.execute(
        "SELECT message.queue, message.priority, seq FROM message JOIN job USING (seq)"
        f" WHERE job.id = ? AND state = {READY}",
        (id,),
    ).fetchone()
    if place is None:
        return None
    queue, priority, seq = place
    (count,) = at.execute(
        "SELECT count(*) FROM (SELECT 1 FROM message INDEXED BY ready"
        f" WHERE queue = ? AND state = {READY} AND (priority > ? OR (priority = ? AND seq < ?))"
        " LIMIT ?)",
        (queue, priority, priority, seq, AHEAD_MAX),
    ).fetchone()
    return int(count)


def listed(
    at: Connection,
    *,
    status: Status | None = None,
    task: str = "",
    queue: str = "",
    after: str = "",
    before: float | None = None,
    limit: int = 100,
) -> list[JobInfo]:
    """Jobs in the order in which they were put."""
    wanted = ["1"]
    if status is not None:
        wanted.append(f"({_STATUS}) = {_NUMBERS[status]}")
        if status in (Status.FINISHED, Status.STOPPED, Status.CANCELED):
            wanted.append(f"job.status = {_NUMBERS[status]} AND job.status >= 2")  # has an index
    if task:
        wanted.append("job.task = :task")
    if queue:
        wanted.append("job.queue = :queue")
    if after:
        wanted.append("job.seq > coalesce((SELECT seq FROM job WHERE id = :after), 0)")
    if before is not None:
        wanted.append("job.created < :before")
    values = {"task": task, "queue": queue, "after": after, "before": before, "limit": limit}
    return _infos(at, f"{_INFO} WHERE {' AND '.join(wanted)} ORDER BY job.seq LIMIT :limit", values)


def counted(at: Connection, queue: str = "") -> Counter[tuple[str, Status]]:
    """The number of jobs by queue and status."""
    rows = at.execute(
        f"SELECT job.queue, {_STATUS}, count(*) FROM job LEFT JOIN message USING (seq)"
        " WHERE :queue IN ('', job.queue) GROUP BY 1, 2",
        {"now": time.time(), "queue": queue},
    )
    return Counter({(name, _STATUSES[status]): count for name, status, count in rows})


def _infos(at: Connection, query: str, values: dict[str, Any]) -> list[JobInfo]:
    cursor = at.cursor()
    cursor.row_factory = Row
    rows = cursor.execute(query, {**values, "now": time.time()}).fetchall()
    return [_info(dict(row)) for row in rows]


def _info(row: dict[str, Any]) -> JobInfo:
    row["status"] = _STATUSES[row["status"]]
    row["meta"] = _loaded(row["meta"], {})
    row["runs"] = tuple(Run(*run) for run in _loaded(row["runs"], []))
    row["outcome"] = row["outcome"] or b""
    row["cancel_requested"] = bool(row["cancel_requested"])
    return JobInfo(**row)


def _loaded(data: str | bytes, otherwise: Any) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # a hand wrote it
        return otherwise
    return value if isinstance(value, type(otherwise)) else otherwise


# ── time ──────────────────────────────────────────────────────────────────────


def is_sweep_due(at: Connection) -> bool:
    """Whether `sweep` would change anything."""
    (due,) = at.execute(
        "SELECT EXISTS (SELECT 1 FROM job INDEXED BY job_expires JOIN message USING (seq)"
        f" WHERE expires < :now AND expires IS NOT NULL AND status = {WAITS}"
        f" AND state IN ({READY}, {DELAYED}))"
        " OR EXISTS (SELECT 1 FROM job INDEXED BY job_until"
        " WHERE until <= :now AND until IS NOT NULL)",
        {"now": time.time()},
    ).fetchone()
    return bool(due)


def sweep(at: Connection, now: float) -> set[str]:
    """Ends what has expired before anybody began it, and forgets what was kept long enough;
    returns who waits for what ended."""
    expired = at.execute(
        "SELECT seq FROM job INDEXED BY job_expires JOIN message USING (seq)"
        f" WHERE expires < ? AND expires IS NOT NULL AND status = {WAITS}"
        f" AND state IN ({READY}, {DELAYED})",
        (now,),
    ).fetchall()
    seqs = [seq for (seq,) in expired]
    told = waiters(at, seqs) if seqs else set()
    if seqs:
        _end(at, seqs, FAILED, now, EXPIRED)
    _prune(at, now)
    at.execute("DELETE FROM job_key WHERE until <= ?", (now,))
    return told


def _prune(at: Connection, now: float) -> None:
    old = "SELECT seq FROM job WHERE until <= ? AND until IS NOT NULL"
    at.execute(f"DELETE FROM message WHERE seq IN ({old})", (now,))
    at.execute(f"DELETE FROM job WHERE seq IN ({old})", (now,))


def _bound(at: Connection, done: Sequence[tuple[int, Answer]], now: float) -> None:
    """Keep the last `FINISHED_MAX` finished jobs of each queue; looked at every 4,096 jobs."""
    if any(seq % 4096 < 1 for seq, _ in done):
        queues = at.execute(
            "SELECT DISTINCT queue FROM job WHERE status = ? AND status >= 2", (FINISHED,)
        )
        for (queue,) in queues.fetchall():
            at.execute(
                "DELETE FROM job WHERE seq IN (SELECT seq FROM job INDEXED BY job_ended"
                " WHERE status = ? AND status >= 2 AND queue = ?"
                " ORDER BY seq DESC LIMIT -1 OFFSET ?)",
                (FINISHED, queue, FINISHED_MAX),
            )


# ── small parts ───────────────────────────────────────────────────────────────


def _conclude(at: Connection, done: Sequence[tuple[int, Answer]], status: int, now: float) -> None:
    """Runs ended, and their jobs with them."""
    seqs = [seq for seq, _ in done]
    attempts = _attempts(at, seqs)
    for said in (False, True):
        values = [
            _values(seq, attempts.get(seq, 0), answer, now)
            for seq, answer in done
            if said is (answer.progress is not None)
        ]
        if values:
            at.executemany(
                f"UPDATE job SET runs = {_RUN}{_SAID if said else ''}, status = {status},"
                f" until = {_UNTIL[status in (FAILED, STOPPED)]}, cancel = 0, ended = :now,"
                " outcome = :outcome, begun = coalesce(begun, :begun), error = :error,"
                " worker = coalesce(:worker, worker), attempts = :attempts WHERE seq = :seq",
                values,
            )
    _free_keys(at, seqs)
    _prune(at, now)


def _attempts(at: Connection, seqs: Sequence[int]) -> dict[int, int]:
    """The hand-outs of messages so far, by row."""
    query = f"SELECT seq, attempts FROM message WHERE {_THESE}"
    return dict(at.execute(query, {"seqs": json.dumps(seqs)}).fetchall())


def _end(at: Connection, seqs: Sequence[int], status: int, now: float, error: str = "") -> None:
    """Jobs end that nobody runs: their messages become dead letters, those of canceled ones are
    kept aside."""
    if status == STOPPED:
        error = error or _STOPPED_ERROR
    values = {
        "seqs": json.dumps(list(seqs)), "status": status, "now": now, "error": error,
    }  # fmt: skip
    at.execute(
        "UPDATE job SET status = :status, cancel = 0, ended = :now, error = :error,"
        " attempts = coalesce((SELECT attempts FROM message WHERE message.seq = job.seq),"
        f" attempts), until = {_UNTIL[status in (FAILED, STOPPED)]} WHERE {_THESE}",
        values,
    )
    if status == CANCELED:
        at.execute(
            f"UPDATE message SET state = {KEPT}, owner = NULL, not_before = 0 WHERE {_THESE}",
            values,
        )
    else:
        at.execute(
            f"UPDATE message SET state = {DEAD}, owner = NULL, not_before = 0, died = :now,"
            f" reason = :error, error = :error, route = queue WHERE {_THESE}",
            values,
        )
    _free_keys(at, seqs)
    _prune(at, now)


def _free_keys(at: Connection, seqs: Iterable[int]) -> None:
    at.execute(
        f"DELETE FROM job_key WHERE until = 9e999 AND job IN"
        f" (SELECT id FROM job WHERE {_THESE} AND key IS NOT NULL)",
        {"seqs": json.dumps(list(seqs))},
    )


def _values(seq: int, attempts: int, answer: Answer, now: float) -> dict[str, Any]:
    progress, note, meta = answer.progress or (None, None, None)
    return {
        "seq": seq, "now": now, "outcome": answer.outcome or None, "error": answer.error,
        "worker": answer.worker or None, "begun": now - answer.seconds, "attempts": attempts,
        "progress": progress, "note": note, "meta": meta,
    }  # fmt: skip
