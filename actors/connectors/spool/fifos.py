"""The FIFOs of a spool's owners, in the directory beside its file.

A FIFO is locked for as long as its owner's process lives; what is written into it wakes the
owner. All names are looked up in the open directory and no link is followed: whoever could
put a link there would have us write through it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.connectors.trusted import check_directory

_NAME = re.compile(r"[0-9a-f]{16}")
_NO_FIFO = (errno.ENOENT, errno.ELOOP, errno.ENXIO)  #: none, a link, a socket
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Fifos:
    """One directory, opened for each use: a spool may be forked, and its directory replaced.

    Every method may raise `OSError`, and `ConfigurationError` where the directory is not ours
    alone.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what

    def check(self) -> None:
        """Whether it may be used, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            check_directory(os.lstat(self.path), self.path, self._what)

    def open_turnstile(self) -> int:
        """A descriptor of the directory itself, for locks that mean something else."""
        self._make()
        with self._directory() as directory:
            return os.dup(directory)

    def create(self) -> tuple[str, int]:
        """A new FIFO, locked; the directory is made where it is missing."""
        self._make()
        with self._directory() as directory:
            while True:
                name = os.urandom(8).hex()
                os.mkfifo(name, 0o600, dir_fd=directory)
                # Open for both: without a writer of its own, it would be readable for ever.
                fifo = os.open(name, os.O_RDWR | _SAFE, dir_fd=directory)
                # Somebody who looks for the dead may come between, and take it for one of them.
                if _lock(fifo) and _is_fifo(name, directory):
                    return name, fifo
                os.close(fifo)

    def names(self) -> set[str]:
        """All that may be owners; what else lies there is left alone."""
        with self._directory() as directory:
            return {name for name in os.listdir(directory) if _NAME.fullmatch(name)}

    def has(self, name: str) -> bool:
        with self._directory() as directory:
            return _is_fifo(name, directory)

    @contextmanager
    def dead(self, name: str) -> Iterator[bool]:
        """Whether the owner is dead: its lock can be had, and is held meanwhile, or there is no
        such FIFO."""
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(self._directory())
            try:
                fifo = os.open(name, os.O_RDONLY | _SAFE, dir_fd=directory)
            except OSError as error:
                if error.errno not in _NO_FIFO:  # no descriptor is left, say: it may well live
                    raise
                yield True
                return
            stack.callback(os.close, fifo)
            is_ours = stat.S_ISFIFO(os.fstat(fifo).st_mode)
            yield not is_ours or _lock(fifo)

    def remove(self, name: str) -> None:
        with self._directory() as directory:
            if _is_fifo(name, directory):
                os.unlink(name, dir_fd=directory)

    def ring(self, besides: str = "") -> None:
        """One byte into each, where somebody listens and has not been told often enough."""
        with self._directory() as directory:
            for name in os.listdir(directory):
                if name != besides and _NAME.fullmatch(name):
                    with contextlib.suppress(OSError):
                        _ring(name, directory)

    def ring_one(self, name: str) -> None:
        """One byte into this one. Raises `OSError` where nobody listens."""
        if _NAME.fullmatch(name):
            with self._directory() as directory:
                _ring(name, directory)

    def _make(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, 0o700)

    @contextmanager
    def _directory(self) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            directory = os.open(self.path, flags)
        except OSError:
            self.check()  # says more where it is something else
            raise
        try:
            check_directory(os.fstat(directory), self.path, self._what)
            yield directory
        finally:
            os.close(directory)


def _is_fifo(name: str, directory: int) -> bool:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISFIFO(found.st_mode)


def _ring(name: str, directory: int) -> None:
    fifo = os.open(name, os.O_WRONLY | _SAFE, dir_fd=directory)
    try:
        if stat.S_ISFIFO(os.fstat(fifo).st_mode):
            os.write(fifo, b"!")
    finally:
        os.close(fifo)


def _lock(fifo: int) -> bool:
    try:
        fcntl.flock(fifo, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
