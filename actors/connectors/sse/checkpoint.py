"""The checkpoints of a connection's streams in one locked file: a line of JSON for each."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from actors.connectors.trusted import check_file, check_parent
from actors.errors import ConfigurationError


class CheckpointFile:
    """One file, one owner: a lock on `<path>.lock` is held until `close`.

    Raises `ConfigurationError` where the file cannot be read or written, or where another
    process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A file of its own, for the other one is replaced at each write.
            lock = path.with_name(path.name + ".lock")
            check_parent(os.stat(path.parent), path.parent, f"checkpoint {path}")
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            check_file(os.fstat(self._lock), lock, f"checkpoint {path}")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._ids = self._read()
            self.write({})
        except BlockingIOError:
            self.close()
            raise ConfigurationError(
                f"checkpoint {path}: another process holds it; run one worker for each stream"
            ) from None
        except OSError as error:
            self.close()
            raise ConfigurationError(
                f"checkpoint {path}: cannot be kept: {error.strerror}: {error.filename}"
            ) from None
        except ConfigurationError:
            self.close()
            raise
        except (ValueError, KeyError, TypeError):
            self.close()
            raise ConfigurationError(f"checkpoint {path}: not a file of checkpoints") from None

    def get(self, stream: str) -> str | None:
        """The id to resume this stream from."""
        return self._ids.get(stream)

    def write(self, ids: dict[str, str]) -> None:
        """Store these ids besides the others, on the disk when it returns; raises `OSError`."""
        ids = self._ids | ids
        lines = (json.dumps({"stream": stream, "id": id}) + "\n" for stream, id in ids.items())
        temporary = self.path.with_name(self.path.name + ".tmp")
        # One that is there already may be a second name of another file.
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        self._sync_directory()
        self._ids = ids

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _read(self) -> dict[str, str]:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, encoding="utf-8") as file:
                check_file(os.fstat(descriptor), self.path, f"checkpoint {self.path}")
                lines = [json.loads(line) for line in file.read().splitlines()]
            return {str(line["stream"]): str(line["id"]) for line in lines}
        return {}

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
