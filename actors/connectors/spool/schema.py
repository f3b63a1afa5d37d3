"""The tables of a spool, and a connection to them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from actors.errors import ConfigurationError

#: States of a message; KEPT is one of a canceled job, which may be queued again.
READY, DELAYED, CLAIMED, DEAD, KEPT = range(5)

_APPLICATION = 0x43424C44  #: "CBLD": tells a spool from any other SQLite file
_VERSION = 2

#: Messages that none of the other indexes would ever bring up: a hand wrote them.
STRAY = (
    "(typeof(queue) != 'text'"
    f" OR coalesce(state, -1) NOT IN ({READY}, {DELAYED}, {CLAIMED}, {DEAD}, {KEPT})"
    " OR typeof(not_before) NOT IN ('real', 'integer'))"
)

# A message is two rows, so that claiming it does not write its body again. Each state has
# an index of its own, so that a row is in exactly one: `ready` is the order of hand-outs.
_SCHEMA = f"""
CREATE TABLE message (
    seq INTEGER PRIMARY KEY, queue TEXT NOT NULL, state INTEGER NOT NULL,
    priority INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0, owner TEXT,
    died REAL, reason TEXT, error TEXT, route TEXT);
CREATE TABLE content (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, headers BLOB NOT NULL,
    enqueued REAL NOT NULL, body BLOB NOT NULL);
CREATE INDEX ready ON message (queue, priority DESC, seq) WHERE state = {READY};
CREATE INDEX delayed ON message (queue, not_before) WHERE state = {DELAYED};
CREATE INDEX claimed ON message (owner) WHERE state = {CLAIMED};
CREATE INDEX dead ON message (queue, died) WHERE state = {DEAD};
CREATE TRIGGER forget AFTER DELETE ON message BEGIN
    DELETE FROM content WHERE seq = OLD.seq;
END;
PRAGMA application_id = {_APPLICATION};
"""

# A job has a row beside its message, which says where it is while it waits or is in hand; what
# ended outlives its message. Infinite times are 9e999, so that they compare.
_JOBS = f"""
CREATE TABLE job (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, task TEXT NOT NULL, queue TEXT NOT NULL,
    status INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, expires REAL, begun REAL, ended REAL, until REAL,
    result_ttl REAL NOT NULL, failure_ttl REAL NOT NULL, once INTEGER NOT NULL,
    key TEXT, key_until TEXT, attempts INTEGER NOT NULL DEFAULT 0, priority INTEGER NOT NULL,
    worker TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '', outcome BLOB,
    progress REAL NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT '', meta BLOB NOT NULL,
    runs TEXT NOT NULL DEFAULT '[]', description TEXT NOT NULL, waiters TEXT NOT NULL DEFAULT '');
CREATE INDEX job_ended ON job (status, queue, seq) WHERE status >= 2;
CREATE INDEX job_expires ON job (expires) WHERE expires IS NOT NULL AND status = 0;
CREATE INDEX job_until ON job (until) WHERE until IS NOT NULL;
CREATE INDEX job_cancel ON job (seq) WHERE cancel > 0;
CREATE TABLE job_key (key TEXT PRIMARY KEY, job TEXT NOT NULL, until REAL NOT NULL);
CREATE INDEX job_key_job ON job_key (job);
CREATE TABLE paused (queue TEXT PRIMARY KEY, until REAL NOT NULL);
CREATE TRIGGER forget_dead AFTER DELETE ON message WHEN OLD.state = {DEAD} BEGIN
    DELETE FROM job_key WHERE job = (SELECT id FROM job WHERE seq = OLD.seq);
    DELETE FROM job WHERE seq = OLD.seq;
END;
DROP INDEX IF EXISTS stray;
PRAGMA user_version = {_VERSION};
"""


def connect(path: Path, durable: bool, timeout: float) -> sqlite3.Connection:
    """Open the file, and make it a spool if it is empty.

    Raises `ConfigurationError` where it is something else, and `sqlite3.Error`.
    """
    connection = sqlite3.connect(
        path, timeout=timeout, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = _text
    try:
        _set_up(connection, path, durable, timeout)
    except sqlite3.DatabaseError as error:
        connection.close()
        if _name(error).startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            raise ConfigurationError(
                f"connection spool://{path}: is no spool, or damaged: {error}"
            ) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def is_busy(error: sqlite3.Error) -> bool:
    """Whether it is only that somebody else has the lock."""
    return _name(error).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _set_up(connection: sqlite3.Connection, path: Path, durable: bool, timeout: float) -> None:
    _is_spool(connection, path)
    _use_wal(connection, time.monotonic() + timeout)
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("BEGIN IMMEDIATE")
    found = _is_spool(connection, path)
    if found < _VERSION:  # made here, or taken over in place, under the lock
        for statement in _statements(_JOBS if found else _SCHEMA + _JOBS):
            connection.execute(statement)
    connection.execute(f"CREATE INDEX IF NOT EXISTS stray ON message (seq) WHERE {STRAY}")
    connection.execute("COMMIT")


def _is_spool(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the spool; 0: the file is empty. Raises where it is something else."""
    # Tables first: another process may make the spool between two of these questions, and with
    # its tables come the numbers that say whose they are.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (encoding,) = connection.execute("PRAGMA encoding").fetchone()
    foreign = application not in (0, _APPLICATION) or (application == 0 and tables)
    if foreign or encoding != "UTF-8":  # as bytes, text is read in the encoding of its file
        raise ConfigurationError(
            f"connection spool://{path}: is a database of something else, not a spool"
        )
    if version not in range(_VERSION + 1):
        raise ConfigurationError(
            f"connection spool://{path}: is a spool of version {version}; "
            f"this program knows versions up to {_VERSION}: update it"
        )
    return int(version)


def next_seq(connection: sqlite3.Connection) -> int:
    """The number of the next message; none is used twice while a job has it."""
    (last,) = connection.execute(
        "SELECT max(coalesce((SELECT max(seq) FROM message), 0),"
        " coalesce((SELECT max(seq) FROM job), 0))"
    ).fetchone()
    return int(last) + 1


def _text(data: bytes) -> str:
    """Whatever was stored as text: what is no UTF-8 must not end a query."""
    return data.decode("utf-8", "backslashreplace")


def _use_wal(connection: sqlite3.Connection, deadline: float) -> None:
    # Where several processes meet on a new file, SQLite answers "locked" here at once,
    # without the patience that it has elsewhere.
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise sqlite3.OperationalError(f"the file system offers no WAL, only {mode}")
        return


def _statements(script: str) -> Iterator[str]:
    """One by one: `executescript` would commit in between."""
    statement = ""
    for line in script.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _name(error: sqlite3.Error) -> str:
    """SQLite's own name of the error; the module's own errors have none."""
    return str(getattr(error, "sqlite_errorname", ""))
