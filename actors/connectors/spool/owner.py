"""The owners of a spool's messages, told apart without a clock.

An owner is a FIFO beside the spool, locked for as long as its process lives: whoever can
take that lock knows the owner dead and frees what it held. What is written into the FIFO
wakes the owner.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from sqlite3 import Connection
from typing import Any, NamedTuple
from weakref import WeakSet

from actors.connectors.spool import jobs
from actors.connectors.spool.file import SpoolError, SpoolFile
from actors.connectors.spool.schema import CLAIMED, DEAD, DELAYED, READY, STRAY
from actors.errors import InvalidMessage
from actors.logic.messages.entry import MAX_ID, MAX_MESSAGE, MAX_NAME, check_size
from actors.logic.messages.plain import encodable
from actors.logic.messages.records import MAX_PRIORITY, pack
from actors.logic.settlement.attempts import ATTEMPTS_MAX
from actors.logic.settlement.copying import Form
from actors.logic.settlement.failure import class_name
from actors.roles.port import Republish

LOCK = 0.1  #: seconds to wait for the file's lock, where one can come back later

COUNTED = 100_000  #: messages of a queue at the most: who counts them does nothing else meanwhile

# Bytes whatever the type: a file holds what its last writer put there, a hand for one, and
# text that is no UTF-8 would end the query.
_CLAIM = f"""
SELECT seq, CAST(id AS BLOB),
    CASE WHEN length(headers) <= {MAX_MESSAGE} THEN CAST(headers AS BLOB) END,
    priority, enqueued, attempts,
    CASE WHEN length(body) + length(headers) <= {MAX_MESSAGE} THEN CAST(body AS BLOB) END
FROM message INDEXED BY ready LEFT JOIN content USING (seq)
WHERE queue = ? AND state = {READY} ORDER BY priority DESC, seq LIMIT ?
"""
_STRAYS = f"""
SELECT seq, CASE WHEN typeof(queue) != 'text' THEN 'queue is no text'
    WHEN typeof(not_before) NOT IN ('real', 'integer') THEN 'not_before is no time'
    ELSE 'state is none that this program knows' END
FROM message INDEXED BY stray WHERE {STRAY}
"""
#: All that `free` may ask the file system for; NULL, say, is nobody's name.
_IS_NAME = "typeof(owner) = 'text' AND length(owner) = 16 AND owner NOT GLOB '*[^0-9a-f]*'"
_IS_READY = f"WHERE queue = :queue AND state = {READY}"
_IS_DUE = f"WHERE queue = :queue AND state = {DELAYED} AND not_before <= :now"
_IS_PAUSED = "EXISTS (SELECT 1 FROM paused WHERE queue = :queue AND until > :now)"
_THESE = "owner = ? AND seq IN (SELECT value FROM json_each(?))"
_RELEASED = f"UPDATE message SET state = {READY}, owner = NULL"


class Claim(NamedTuple):
    """A message in hand."""

    seq: int
    attempts: int  #: hand-outs before this one
    record: bytes


class Unreadable(NamedTuple):
    """A message that nobody can be given; a dead letter by now."""

    queue: str
    reason: str


class Owner:
    """Holds messages of one spool until they are settled, or its process dies."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self.name, self.fileno = file.owners.create()
        _owners.add(self)

    def drain(self) -> bool:
        """Whether somebody rang since the last time."""
        try:
            return bool(os.read(self.fileno, 65536))
        except BlockingIOError:
            return False

    def claim(
        self, at: Connection, queue: str, most: int, size: int, *, with_jobs: bool = False
    ) -> tuple[list[Claim], list[Unreadable]]:
        """Take up to `most` messages of about `size` bytes in all, one at the least.

        Each counts an attempt in the same transaction: before anybody sees it. Of a queue that is
        paused there is nothing.
        """
        here = {"queue": queue, "now": time.time()}
        if at.execute(f"SELECT {_IS_PAUSED}", here).fetchone()[0]:
            return [], []
        at.execute(f"UPDATE message SET state = {READY}, not_before = 0 {_IS_DUE}", here)
        claims: list[Claim] = []
        troubles: list[tuple[int, str]] = []
        found = at.execute(_CLAIM, (queue, most))
        for seq, id, headers, priority, enqueued, attempts, body in (
            jobs.with_meta(at, found.fetchall()) if with_jobs else found
        ):
            if claims and len(body or b"") > size:
                break
            try:
                if id is None or headers is None or body is None:
                    raise ValueError(_missing(at, seq))
                check_size(len(headers) + len(body))  # of text, SQLite counts the characters
                record = pack(id.decode(), queue, headers, priority, enqueued, attempts, body)
            except ValueError as error:
                troubles.append((seq, str(error)))
            else:
                size -= len(record)
                claims.append(Claim(seq, attempts, record))
        at.execute(
            f"UPDATE message SET state = {CLAIMED}, owner = ?, attempts = attempts + 1"
            " WHERE seq IN (SELECT value FROM json_each(?))",
            (self.name, json.dumps([claim.seq for claim in claims])),
        )
        return claims, [bury_unreadable(at, *trouble) for trouble in troubles]

    def held(self, at: Connection, seqs: Iterable[int]) -> set[int]:
        """Those of these that are still in hand: others may have thought oneself dead."""
        query = f"SELECT seq FROM message WHERE {_THESE} AND state = {CLAIMED}"
        return {seq for (seq,) in at.execute(query, self._these(seqs))}

    def delete(self, at: Connection, seqs: Iterable[int]) -> None:
        """Settled for good: acknowledged or rejected."""
        at.execute(f"DELETE FROM message WHERE {_THESE}", self._these(seqs))

    def release(self, at: Connection, seqs: Iterable[int], given_back: int = 0) -> None:
        """Ready again, with `given_back` attempts fewer."""
        at.execute(
            f"{_RELEASED}, attempts = attempts - {given_back:d} WHERE {_THESE}", self._these(seqs)
        )

    def release_as(self, at: Connection, seqs: Iterable[int], attempts: int) -> None:
        """Ready again, as handed out so often: in memory it may have been more often."""
        at.execute(f"{_RELEASED}, attempts = ? WHERE {_THESE}", (attempts, *self._these(seqs)))

    def delay(self, at: Connection, seq: int, request: Republish) -> None:
        """Ready again after a while, by the wall clock."""
        at.execute(
            f"UPDATE message SET state = {DELAYED}, owner = NULL, not_before = ?,"
            f" attempts = ? WHERE {_THESE}",
            (time.time() + request.delay, request.attempts, *self._these((seq,))),
        )

    def bury(self, at: Connection, seq: int, request: Republish) -> None:
        """A dead letter from now on; in another form than the first, with what may be at fault
        left out."""
        notes = (request.reason, request.error, request.route)
        if request.form is not Form.WHOLE:
            notes = (encodable(f"{request.error}: {request.lacking}"), "", "")
        at.execute(
            f"UPDATE message SET state = {DEAD}, owner = NULL, died = ?, reason = ?, error = ?,"
            f" route = ?, attempts = max(attempts, ?) WHERE {_THESE}",
            (time.time(), *notes, min(request.attempts, ATTEMPTS_MAX), *self._these((seq,))),
        )

    def free_dead_owners(self) -> None:
        """Release what owners hold that live no more; a crash in hand counts as an attempt.

        Raises `SpoolError` where one's own file is gone: others then think oneself dead.
        """
        with self._file.reading() as at:
            names = {
                name
                for (name,) in at.execute(
                    f"SELECT DISTINCT owner FROM message WHERE state = {CLAIMED} AND {_IS_NAME}"
                )
            }
            (nobodys,) = at.execute(
                "SELECT EXISTS (SELECT 1 FROM message INDEXED BY claimed"
                f" WHERE state = {CLAIMED} AND (owner IS NULL OR NOT ({_IS_NAME})))"
            ).fetchone()
        owners = self._file.owners
        if not owners.has(self.name):
            raise SpoolError(f"spool {self._file.path}: {self.name} was removed from its owners")
        for name in names.union(owners.names()) - {self.name}:
            self._free(name)
        if nobodys:
            with self._file.transaction(LOCK) as at:
                at.execute(
                    f"{_RELEASED} WHERE state = {CLAIMED} AND (owner IS NULL OR NOT ({_IS_NAME}))"
                )
            self._file.wake()

    def bury_strays(self) -> list[Unreadable]:
        """Make dead letters of messages that no claim would ever find."""
        with self._file.reading() as at:
            found = at.execute(_STRAYS).fetchall()
        if not found:
            return []
        with self._file.transaction(LOCK) as at:
            return [bury_unreadable(at, *stray) for stray in at.execute(_STRAYS).fetchall()]

    def leave(self) -> None:
        """Give back, uncounted, all that is still in hand, and go."""
        with self._file.transaction() as at:
            jobs.release(at, self.name, dead=False)
            at.execute(
                f"{_RELEASED}, attempts = attempts - 1 WHERE owner = ? AND state = {CLAIMED}",
                (self.name,),
            )
        self._file.owners.remove(self.name)
        self.abandon()
        self._file.wake()

    def abandon(self) -> None:
        """Die without a word: others free what was held."""
        if self.fileno >= 0:
            os.close(self.fileno)
            self.fileno = -1

    def _these(self, seqs: Iterable[int]) -> tuple[str, str]:
        return self.name, json.dumps(list(seqs))

    def _free(self, name: str) -> None:
        """Release what `name` holds, if it is dead: its lock can be had, or its file is gone."""
        freed = 0
        with self._file.owners.dead(name) as dead:
            if dead:
                with self._file.transaction(LOCK) as at:
                    jobs.release(at, name, dead=True)
                    freed = at.execute(
                        f"{_RELEASED} WHERE owner = ? AND state = {CLAIMED}", (name,)
                    ).rowcount
                self._file.owners.remove(name)
        if freed:
            self._file.wake()


def bury_unreadable(at: Connection, seq: int, reason: str) -> Unreadable:
    """Make a dead letter of what nobody can be given; what is not its body is mended, so that
    people can look at it and redrive it."""
    row = "SELECT CAST(queue AS BLOB), priority, attempts FROM message WHERE seq = ?"
    queue, priority, attempts = at.execute(row, (seq,)).fetchone()
    name = (_text(queue) or "?").encode()[:MAX_NAME].decode(errors="ignore")
    at.execute(
        f"UPDATE message SET state = {DEAD}, queue = ?, priority = ?, attempts = ?, owner = NULL,"
        " not_before = 0, died = ?, reason = ?, error = ?, route = '' WHERE seq = ?",
        (
            name,
            _whole(priority, MAX_PRIORITY),
            _whole(attempts, COUNTED),
            time.time(),
            reason,
            class_name(InvalidMessage),
            seq,
        ),
    )
    nothing = (seq, os.urandom(16).hex(), b"", time.time(), b"")
    at.execute("INSERT OR IGNORE INTO content VALUES (?, ?, ?, ?, ?)", nothing)
    row = "SELECT CAST(id AS BLOB), typeof(id), typeof(enqueued) FROM content WHERE seq = ?"
    id, kind, clock = at.execute(row, (seq,)).fetchone()
    if kind != "text" or _text(id).encode() != id or len(id) > MAX_ID:
        mended = _text(id).encode()[:MAX_ID].decode(errors="ignore") or os.urandom(16).hex()
        at.execute("UPDATE content SET id = ? WHERE seq = ?", (mended, seq))
    if clock not in ("real", "integer"):
        at.execute("UPDATE content SET enqueued = ? WHERE seq = ?", (time.time(), seq))
    return Unreadable(name, reason)


def has_ready(at: Connection, queue: str) -> bool:
    """Whether `claim` would find something now."""
    (found,) = at.execute(
        f"SELECT (EXISTS (SELECT 1 FROM message {_IS_READY})"
        f" OR EXISTS (SELECT 1 FROM message {_IS_DUE})) AND NOT {_IS_PAUSED}",
        {"queue": queue, "now": time.time()},
    ).fetchone()
    return bool(found)


def count_ready(at: Connection, queue: str) -> int:
    """How many messages `claim` would find now, if nothing limited it; at most `COUNTED`."""
    (count,) = at.execute(
        f"SELECT (SELECT count(*) FROM (SELECT 1 FROM message {_IS_READY} LIMIT :most))"
        f" + (SELECT count(*) FROM (SELECT 1 FROM message {_IS_DUE} LIMIT :most))",
        {"queue": queue, "now": time.time(), "most": COUNTED},
    ).fetchone()
    return min(int(count), COUNTED)


def next_delayed(at: Connection, queue: str) -> float:
    """When the next delayed message is due, by the wall clock; infinite where there is none."""
    (soonest,) = at.execute(
        f"SELECT min(not_before) FROM message WHERE queue = ? AND state = {DELAYED}"
        " AND not_before < 9e999",  # what is no number sorts after all numbers
        (queue,),
    ).fetchone()
    pause = at.execute("SELECT until FROM paused WHERE queue = ?", (queue,)).fetchone()
    if pause and pause[0] > time.time():
        return float(pause[0])
    return float("inf") if soonest is None else float(soonest)


def _missing(at: Connection, seq: int) -> str:
    """Why a message was not read: what is too large never comes into memory."""
    sizes = "SELECT length(id), length(headers), length(body) FROM content WHERE seq = ?"
    id, headers, body = at.execute(sizes, (seq,)).fetchone() or (None, None, None)
    if id is None or headers is None or body is None:
        return "id, headers or body is missing"
    return f"body is {headers + body:,} bytes with its headers, more than {MAX_MESSAGE:,}"


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "backslashreplace")


def _whole(value: Any, most: int) -> int:
    """A number of whatever type as what it should be; 0 where it is not."""
    return value if isinstance(value, int) and 0 <= value <= most else 0


# A lock outlives its process in whoever inherited the descriptor.
_owners: WeakSet[Owner] = WeakSet()


def _after_fork() -> None:
    for owner in _owners:
        owner.abandon()


os.register_at_fork(after_in_child=_after_fork)
