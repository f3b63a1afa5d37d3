"""The directory for all that must outlive a process."""

from __future__ import annotations

import os
from pathlib import Path

from actors.errors import ConfigurationError


def state_dir() -> Path:
    """Where what must outlive a process is kept: the spool and the checkpoints.

    `CALLBOARD_STATE_DIR`, systemd's `STATE_DIRECTORY`, or `callboard` in the user's own.
    It need not exist.
    """
    if given := os.environ.get("CALLBOARD_STATE_DIR"):
        return Path(given).absolute()
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])  # systemd joins the directories of a unit with colons
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base).absolute() / "callboard"
    try:
        return Path.home() / ".local/state/callboard"
    except RuntimeError:
        raise ConfigurationError(
            "CALLBOARD_STATE_DIR is not set, and this user has no home directory"
        ) from None
