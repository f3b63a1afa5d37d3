"""Whole lines into a descriptor that several processes share, whatever its reader does."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from struct import Struct

#: Seconds that a line waits for its reader. Once one has waited in vain none does, until the
#: reader takes something.
LOCK_TIMEOUT_S = 0.25

#: Bytes that fit where a pipe or a terminal says that something fits.
PIECE = 4096

_HEAD = Struct("<QQ")  # lines that were dropped; bytes of the line that was begun and not ended
_FULL = (errno.EAGAIN, errno.ENOSPC, errno.EDQUOT)


class SharedLines:
    """Writes lines of this process and of its forks, one after the other.

    A line that the reader has taken in part ends before another begins: its rest lies in a
    file in memory, and who writes next writes it first. The file holds as well how many lines
    were dropped, and its lock gives each process its turn.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._file, self._id = -1, (0, 0)
        self._missed = 0  # dropped by this process while it had no turn
        with suppress(OSError):
            self._file = _file_in_memory()
            self._id = _identity(self._file)

    @property
    def dropped(self) -> int:
        """Lines that were dropped, and not yet told of."""
        return self._missed + self._load()[0]

    def write(self, line: bytes, notice: Callable[[int], bytes]) -> None:
        """Write a line, and before it the notice of how many were dropped, if any were."""
        if not self._turn():
            self._missed += 1
            return
        dropped, rest = self._load()
        dropped += self._missed
        self._missed = 0
        patience = 0.0 if dropped else LOCK_TIMEOUT_S
        try:
            if rest:
                rest = self._put(rest, patience)
            if rest:
                dropped += 1
            else:
                whole = (notice(dropped) if dropped else b"") + line
                rest = self._put(whole, patience)
                dropped, rest = (dropped + 1, b"") if len(rest) == len(whole) else (0, rest)
        except OSError:  # nobody reads any more, or nobody ever did
            dropped, rest = dropped + 1, b""
        self._end_turn(dropped, rest)

    def flush(self, notice: Callable[[int], bytes]) -> None:
        """Write what is still to be said: the rest of a line, or that some were dropped."""
        if any(self._load()) or self._missed:
            self.write(b"", notice)

    # ── what the processes share ──────────────────────────────────────────────

    def _shares(self) -> bool:
        """Whether the file is still ours: user code may have closed it, and its number has
        been given to another."""
        try:
            return self._file >= 0 and _identity(self._file) == self._id
        except OSError:
            return False

    def _turn(self) -> bool:
        """Wait for one's turn; False where somebody else keeps it. Who has no file has none."""
        pause, deadline = 0.0005, time.monotonic() + LOCK_TIMEOUT_S
        while self._shares():
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(pause)
                pause = min(2 * pause, 0.01)
        return True

    def _load(self) -> tuple[int, bytes]:
        if not self._shares():
            return 0, b""
        head = os.pread(self._file, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return 0, b""
        dropped, size = _HEAD.unpack(head)
        return dropped, os.pread(self._file, size, _HEAD.size) if size else b""

    def _save(self, dropped: int, rest: bytes) -> None:
        if (dropped, rest) != self._load():
            os.pwrite(self._file, _HEAD.pack(dropped, len(rest)) + rest, 0)

    def _end_turn(self, dropped: int, rest: bytes) -> None:
        if not self._shares():
            self._missed += dropped
            return
        with suppress(OSError):
            self._save(dropped, rest)
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    # ── the reader ────────────────────────────────────────────────────────────

    def _put(self, data: bytes, patience: float) -> bytes:
        """Write as much as is taken in time; returns the rest."""
        deadline = time.monotonic() + patience
        while True:
            try:
                data = data[self._take(data) :]
            except OSError as error:
                if error.errno not in _FULL:
                    raise
            left = deadline - time.monotonic()
            if not data or left <= 0:
                return data
            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            poll.poll(1 + left * 1000)

    def _take(self, data: bytes) -> int:
        """How much is taken at once."""
        mode = os.fstat(self.fd).st_mode
        if stat.S_ISREG(mode):
            return os.write(self.fd, data)
        if stat.S_ISSOCK(mode):
            with socket.socket(fileno=os.dup(self.fd)) as peer:
                return peer.send(data, socket.MSG_DONTWAIT)
        # Opened anew, for O_NONBLOCK on the descriptor itself would reach every process
        # that shares it; each time, for an actor's process may have closed ours.
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            own = os.open(f"/proc/self/fd/{self.fd}", flags)
        except OSError:  # another user's, who ran us with it, or there is no /proc
            if not select.select([], [self.fd], [], 0)[1]:
                return 0
            return os.write(self.fd, data[:PIECE])
        try:
            return os.write(own, data)
        finally:
            os.close(own)


def _file_in_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("callboard-log")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _identity(fd: int) -> tuple[int, int]:
    about = os.fstat(fd)
    return about.st_dev, about.st_ino
