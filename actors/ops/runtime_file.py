"""The file that says where a running system is, and keeps its name for it.

It holds the key of the system, so it and its directory are the owner's alone. The
lock on it, not its existence, says that the system runs: a lock ends with its holders.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from actors.errors import ConfigurationError
from actors.stages.thespian.processes import held_locks

#: Seconds to wait for a lock: processes of a system that was killed may hold it still,
#: or somebody looks whether it is held.
LOCK_PATIENCE = 0.5


def runtime_directory() -> Path:
    """Where runtime files are, as the environment has it."""
    if told := os.environ.get("CALLBOARD_RUNTIME_DIR"):
        return Path(told)
    if systemd := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(systemd.split(":")[0])
    if user := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(user) / "callboard"
    return Path(f"/tmp/callboard-{os.getuid()}")


class RuntimeFile:
    """Locked while its context is open.

    Raises `ConfigurationError` where the name is in use or the directory is not safe.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._path = _prepared(directory) / _file_name(name)
        self._name = name
        self._fd = -1

    def __enter__(self) -> RuntimeFile:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags, 0o600)
        except OSError as problem:
            raise ConfigurationError(f"runtime file {self._path}: {problem.strerror}") from None
        os.fchmod(self._fd, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE
        while not _lock(self._fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(self._fd)
                raise ConfigurationError(f"--name {self._name}: a system of this name is running")
            time.sleep(0.01)
        os.ftruncate(self._fd, 0)
        held_locks.add(self._fd)
        return self

    @property
    def metrics(self) -> Path:
        """Where processes of the system may keep what they measure; it need not exist."""
        return self._path.with_name(f"{self._path.stem}.metrics")

    def write(self, content: dict[str, Any]) -> None:
        os.pwrite(self._fd, json.dumps(content).encode(), 0)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        # Emptied, not removed: between a look at the path and the lock, a name
        # could come to stand for another file.
        os.ftruncate(self._fd, 0)
        held_locks.discard(self._fd)
        os.close(self._fd)


def find(directory: Path, name: str | None, admin_port: int | None) -> dict[str, Any] | None:
    """What the runtime file of a running system says; the only one's, where none is named.

    Raises `ConfigurationError` where several run.
    """
    paths = [directory / _file_name(name)] if name else sorted(directory.glob("*.json"))
    running = [content for path in paths if (content := _read(path)) is not None]
    if admin_port:
        running = [content for content in running if content["admin_port"] == admin_port]
    if len(running) > 1:
        names = ", ".join(content["name"] for content in running)
        raise ConfigurationError(f"several systems are running, name one of them: {names}")
    return running[0] if running else None


def _file_name(name: str) -> str:
    return quote(name, safe=":", errors="surrogateescape") + ".json"


def _prepared(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as problem:
        raise ConfigurationError(f"runtime directory {directory}: {problem.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"runtime directory {directory}: not a directory")
    if found.st_uid != os.getuid():
        raise ConfigurationError(f"runtime directory {directory}: belongs to another user")
    if found.st_mode & 0o022:
        raise ConfigurationError(f"runtime directory {directory}: others may write to it")
    return directory


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid != os.getuid() or _lock(fd, fcntl.LOCK_SH):
            return None
        content: dict[str, Any] = json.loads(os.read(fd, 65536))
        return content
    except ValueError:
        return None  # still starting
    finally:
        os.close(fd)
