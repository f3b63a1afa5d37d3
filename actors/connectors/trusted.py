"""Files that nobody but their user and root can have written or can change: no other is used.

Every check takes what `lstat` or `fstat` found, and raises `ConfigurationError` with one line
that says what is wrong and what to do.
"""

from __future__ import annotations

import os
import pwd
import stat

from actors.errors import ConfigurationError

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def check_file(found: os.stat_result, path: object, what: str) -> None:
    """A plain file of ours under one name: a second one could be anybody's file."""
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"{what}: {path} is {_kind(found)}, not a file; move it away")
    _check_owner(found, path, what)
    if found.st_nlink > 1:
        raise ConfigurationError(
            f"{what}: {path} has a second name (a hard link); remove one of them"
        )


def check_directory(found: os.stat_result, path: object, what: str) -> None:
    """A directory of ours in which nobody else can make, replace or remove a name."""
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"{what}: {path} is {_kind(found)}, not a directory; move it away")
    _check_owner(found, path, what)


def check_parent(found: os.stat_result, path: object, what: str) -> None:
    """A directory in which nobody else can replace what is ours; a sticky one will do."""
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(
            f"{what}: the directory {path} belongs to {_name(found.st_uid)}, who may replace what"
            f" is in it; run as {_name(found.st_uid)}, or name a file in a directory of your own"
        )
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise ConfigurationError(
            f"{what}: everybody may replace what is in the directory {path} (mode"
            f" {found.st_mode & 0o7777:04o}); name a file in a directory below it, which is made"
            " for you alone, or chmod o-w"
        )


def _check_owner(found: os.stat_result, path: object, what: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        owner, me = _name(found.st_uid), _name(os.geteuid())
        raise ConfigurationError(
            f"{what}: {path} belongs to {owner}; run as {owner}, or chown it to {me}"
        )
    if found.st_mode & _OTHERS:
        mode = f"{found.st_mode & 0o7777:04o}"
        raise ConfigurationError(
            f"{what}: others may write to {path} (mode {mode}); look at what is in it, then"
            " chmod go-w"
        )


def _kind(found: os.stat_result) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFREG: "a file",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(found.st_mode), "a device")


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
