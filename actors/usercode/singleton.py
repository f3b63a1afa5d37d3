"""One of all replicas: who holds an exclusive queue of a broker, or the lock of a file.

Either is let go of by the death of its holder, whatever it dies of.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from actors.connectors.spool.place import prepare
from actors.connectors.trusted import check_file
from actors.errors import ConfigurationError
from actors.plan.plan import Plan
from actors.usercode.timers import Lock


def open_lock(plan: Plan, name: str) -> Lock:
    """The lock of a timer: on the app's first broker, or beside its first spool."""
    name = f"callboard.singleton.{plan.singleton}.{name}"
    places = {kind: settings for _, kind, settings in reversed(plan.outlets)}
    if "amqp" in places:
        from actors.connectors.rabbitmq.lock import QueueLock  # loads pika

        return QueueLock(places["amqp"], name)
    spool = json.loads(places["spool"])["path"] if "spool" in places else None
    return FileLock(Path(spool or Path(plan.state_dir) / "spool.db"), name)


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
