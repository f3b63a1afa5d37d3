"""The spool's SQLite file: opened, locked, written to; every process has its own `SpoolFile`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, RLock
from weakref import WeakSet

from actors.connectors.spool.fifos import Fifos
from actors.connectors.spool.place import MOUNTINFO, check_files, prepare
from actors.connectors.spool.schema import DELAYED, READY, connect, is_busy, next_seq
from actors.errors import ConfigurationError, UnreachableError
from actors.logic.messages.entry import Entry, check_queue

COURTESY = 1.0  #: seconds for which others are let go first, at the most


class SpoolError(UnreachableError):
    """The spool's file cannot be read or written just now: locked too long, disk full, damaged."""


class SpoolBusy(SpoolError):
    """Another process has held the file's write lock for longer than one wanted to wait."""


class SpoolFile:
    """One spool file, made where it is missing. Safe for threads and over a fork.

    `durable`: a commit is on the disk when it returns (`synchronous=FULL`); otherwise it
    survives the death of any process, and a power cut may undo the last ones.

    Every method may raise `ConfigurationError` (the path, or what lies there, is no good)
    and `SpoolError`; `put` also `ValueError` and `TypeError` for what cannot be stored.
    """

    def __init__(self, path: Path, *, durable: bool = True, mountinfo: Path = MOUNTINFO) -> None:
        self.path = Path(os.path.realpath(path))
        owners = Path(f"{self.path}.owners")
        self.owners = Fifos(owners, f"connection spool://{self.path}")
        self.waiters = Fifos(Path(f"{self.path}.waiters"), f"connection spool://{self.path}")
        self.generation = 0  #: counts how often the file was opened: it may be another each time
        self._durable = durable
        self._mountinfo = mountinfo
        self._lock = RLock()
        self._next = Lock()  #: of the thread that is to have `_lock` next
        self._turnstile = -1  #: locked by the process that is to have SQLite's lock next
        self._pid = self._inode = 0
        self._connection: sqlite3.Connection | None = None
        _open_files.add(self)

    def put(self, queue: str, entries: Sequence[Entry], timeout: float = 5.0) -> list[str]:
        """Store all or none, in order, and return their ids; `timeout` is for the locks."""
        check_queue(queue)
        now = time.time()
        for entry in entries:
            entry.check()
        ids = [entry.id or os.urandom(16).hex() for entry in entries]
        content = [
            (id, entry.headers_as_json(), now, entry.body)
            for id, entry in zip(ids, entries, strict=True)
        ]
        with self.transaction(timeout) as at:
            first = next_seq(at)
            at.executemany(
                "INSERT INTO message (seq, queue, priority, state, not_before)"
                " VALUES (?, ?, ?, ?, ?)",
                [
                    (seq, queue, entry.priority, *_first_state(entry, now))
                    for seq, entry in enumerate(entries, first)
                ],
            )
            at.executemany(
                "INSERT INTO content VALUES (?, ?, ?, ?, ?)",
                [(seq, *row) for seq, row in enumerate(content, first)],
            )
        self.wake()
        return ids

    def wake(self, besides: str = "") -> None:
        """Tell idle workers that there may be something for them; they look by themselves too."""
        with contextlib.suppress(OSError, ConfigurationError):
            self.owners.ring(besides)

    @contextmanager
    def transaction(self, timeout: float = 5.0) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of it or nothing. Raises `SpoolBusy` after `timeout` s."""
        with self._locked(timeout) as (connection, left):
            _begin(connection, self._turnstile, time.monotonic() + left)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def reading(self, timeout: float = 5.0) -> Iterator[sqlite3.Connection]:
        """The connection for queries; they never wait for writers."""
        with self._locked(timeout) as (connection, left):
            connection.execute(f"PRAGMA busy_timeout = {int(left * 1000)}")
            yield connection

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._turnstile >= 0:
                os.close(self._turnstile)
                self._turnstile = -1

    def __del__(self) -> None:
        # A connection of SQLite closes itself, a descriptor does not.
        if getattr(self, "_turnstile", -1) >= 0:
            os.close(self._turnstile)

    @contextmanager
    def _locked(self, timeout: float) -> Iterator[tuple[sqlite3.Connection, float]]:
        deadline = time.monotonic() + timeout
        if not self._acquire(deadline):
            raise SpoolBusy(f"spool {self.path}: busy for {timeout:g} s")
        try:
            connection = self._opened(timeout)
            yield connection, max(0.0, deadline - time.monotonic())
        except sqlite3.Error as error:
            raise self._explained(error) from error
        finally:
            self._lock.release()

    def _acquire(self, deadline: float) -> bool:
        """Take the lock of this process; whoever has just let go of it goes behind who waits."""
        if not self._next.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        try:
            return self._lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        finally:
            self._next.release()

    def _explained(self, error: sqlite3.Error) -> SpoolError:
        if is_busy(error):
            return SpoolBusy(f"spool {self.path}: locked by another process")
        # After a failed write nothing that this connection remembers is to be trusted.
        self.close()
        return SpoolError(f"spool {self.path}: {error}")

    def _opened(self, timeout: float) -> sqlite3.Connection:
        if self._connection is not None and self._pid != os.getpid():
            # Both processes believe that they hold the parent's locks: writing would lose data.
            raise SpoolError(f"spool {self.path}: was open when the process was forked from C")
        if self._connection is not None and self._inode != _inode(self.path):
            self.close()  # removed or replaced under us: what is written there is lost
        if self._connection is None:
            prepare(self.path, self._mountinfo)
            self.owners.check()
            self._connection = connect(self.path, self._durable, timeout)
            try:
                check_files(self.path)  # in a sticky directory, others may have come between
            except ConfigurationError:
                self.close()
                raise
            with contextlib.suppress(OSError):  # of root's, say: then without courtesy
                self._turnstile = self.owners.open_turnstile()
            self.generation += 1
            self._pid, self._inode = os.getpid(), _inode(self.path)
        return self._connection


def _first_state(entry: Entry, now: float) -> tuple[int, float]:
    """Its state, and from when on it may be handed out."""
    return (DELAYED, now + entry.delay) if entry.delay else (READY, 0.0)


def _begin(connection: sqlite3.Connection, turnstile: int, deadline: float) -> None:
    """Take SQLite's lock, in turn: who has just let go of it would have it again before any other
    looks. Only who holds the turnstile asks for it, and lets go of the turnstile once it has it.

    Courtesy has an end: a process may be stopped while it stands there.
    """
    now = time.monotonic()
    until = now + min(COURTESY, (deadline - now) / 2)
    while not (first := _lock_now(turnstile)) and turnstile >= 0 and time.monotonic() < until:
        time.sleep(0.001)
    try:
        _begin_now(connection, deadline)
    finally:
        if first:
            fcntl.flock(turnstile, fcntl.LOCK_UN)


def _lock_now(descriptor: int) -> bool:
    if descriptor < 0:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _begin_now(connection: sqlite3.Connection, deadline: float) -> None:
    # SQLite waits longer and longer between two tries, up to 100 ms: beside a process that
    # writes without a pause, trying every millisecond waits a quarter as long.
    connection.execute("PRAGMA busy_timeout = 1")
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


# SQLite's locks belong to a process, and a forked child inherits the belief in them but not
# the locks: every connection is closed before a fork, and both sides open their own after.
_open_files: WeakSet[SpoolFile] = WeakSet()
_held: list[SpoolFile] = []


def _before_fork() -> None:
    for file in list(_open_files):
        file._next.acquire()
        file._lock.acquire()
        _held.append(file)
        file.close()


def _after_fork() -> None:
    while _held:
        file = _held.pop()
        file._lock.release()
        file._next.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
