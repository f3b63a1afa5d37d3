"""What flags, environment and file come to, and the directories that Callboard keeps things in."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from actors.errors import ConfigurationError
from actors.schema import Schema


class Settings(Schema):
    """How an app is to be run: what the command line resolved, or the defaults.

    Raises `ConfigurationError`.
    """

    connections: tuple[str, ...] = Field(default=(), repr=False)  #: `[NAME=]URL`, secrets included
    routes: tuple[str, ...] = ()  #: names of the routes to run; empty: all
    prefetch: int | None = Field(default=None, ge=1, le=65535)  #: for each queue, over the code's
    burst: bool = False  #: end when the queues are empty; implies that nothing is waited for
    wait: bool = True  #: wait for a broker that cannot be reached
    shutdown_timeout: float = Field(default=25.0, ge=0)  #: seconds for the whole drain
    name: str = Field(default="", pattern=r"^[\w.:@-]*$")  #: of the system; empty: the app's
    admin_port: int = Field(default=0, ge=0, le=65535)  #: 0: any free one
    app_dir: str = "."
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["", "text", "json"] = ""  #: empty: what suits stderr
    health: str = ""  #: `HOST:PORT` to answer probes on
    max_bytes: int = Field(default=0, ge=0)  #: unsettled bytes over all connections; 0: no limit

    @model_validator(mode="after")
    def _health_is_an_address(self) -> Self:
        host, _, port = self.health.rpartition(":")
        if self.health and not (host and port.isdecimal() and int(port) <= 65535):
            raise ConfigurationError(f"setting health: must be HOST:PORT, not {self.health!r}")
        return self


def state_dir() -> Path:
    """Where what must outlive a process is kept: the spool and the checkpoints.

    `CALLBOARD_STATE_DIR`, systemd's `STATE_DIRECTORY`, or `callboard` in the user's own.
    It need not exist.
    """
    if given := os.environ.get("CALLBOARD_STATE_DIR") or _first("STATE_DIRECTORY"):
        return Path(given).absolute()
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base).absolute() / "callboard"
    try:
        return Path.home() / ".local/state/callboard"
    except RuntimeError:
        raise ConfigurationError(
            "CALLBOARD_STATE_DIR is not set, and this user has no home directory"
        ) from None


def runtime_dir() -> Path:
    """Where running systems say where they are; made for this user alone if it is missing.

    `CALLBOARD_RUNTIME_DIR`, systemd's `RUNTIME_DIRECTORY`, `callboard` in
    `XDG_RUNTIME_DIR`, or `callboard-UID` among the temporary files.
    """
    if given := os.environ.get("CALLBOARD_RUNTIME_DIR") or _first("RUNTIME_DIRECTORY"):
        path = Path(given).absolute()
    elif base := os.environ.get("XDG_RUNTIME_DIR"):
        path = Path(base).absolute() / "callboard"
    else:
        path = Path(tempfile.gettempdir()) / f"callboard-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise ConfigurationError(f"runtime directory {path}: {error.strerror}") from None
    # In a directory that all may write to, another user may have made it first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ConfigurationError(
            f"runtime directory {path}: others can write to it; set CALLBOARD_RUNTIME_DIR"
        )
    return path


def _first(variable: str) -> str:
    """systemd joins the directories of a unit with colons."""
    return os.environ.get(variable, "").split(":")[0]
