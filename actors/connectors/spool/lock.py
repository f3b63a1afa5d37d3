"""The lock of a file: one of all replicas on a host has it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from actors.connectors.spool.place import prepare
from actors.connectors.trusted import check_file
from actors.errors import ConfigurationError


class FileLock:
    """A lock beside a spool file. A forked child does not inherit it."""

    def __init__(self, spool: Path, name: str) -> None:
        prepare(spool)
        path = spool.with_name(f"{spool.name}.{name.replace('/', '_')}")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise ConfigurationError(f"singleton {path}: {error.strerror}") from None
        check_file(os.fstat(self._file), path, "singleton")
        self._held = False

    def held(self) -> bool:
        if not self._held:
            with contextlib.suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._held = True
        return self._held

    def close(self) -> None:
        os.close(self._file)


def of_spool(settings: str, name: str) -> FileLock:
    """The lock beside a spool. Raises `ConfigurationError`."""
    return FileLock(Path(json.loads(settings)["path"]), name)
