"""The file of keys that the hosts of a system share.

One key a line, in base64 or hexadecimal, blank lines and `#` comments aside. The first
seals, all open: that is what a rotation needs.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import stat
from pathlib import Path

from actors.errors import ConfigurationError

SIZE = 32  #: bytes that a key has at least


def fresh_key() -> str:
    """A new key, as a line of the file."""
    return base64.b64encode(secrets.token_bytes(SIZE)).decode()


def read_keys(path: str) -> tuple[bytes, ...]:
    """The keys that a file holds, the first of which seals.

    Raises `ConfigurationError`, which never quotes the file, where it cannot be read, where
    others may read it, and where a line is no key.
    """
    try:
        with Path(path).open("rb") as file:
            _check_mode(path, os.fstat(file.fileno()))
            lines = file.read(65536).splitlines()
    except OSError as problem:
        raise ConfigurationError(f"--key-file {path}: {problem.strerror}") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    given = [(number, line) for number, line in numbered if line and not line.startswith(b"#")]
    if not given:
        raise ConfigurationError(f"--key-file {path}: holds no key; `callboard key` makes one")
    return tuple(_key(line, f"--key-file {path}: line {number}") for number, line in given)


def _check_mode(path: str, found: os.stat_result) -> None:
    """As ssh does with its keys, and one case more.

    Kubernetes mounts a secret as root's, readable for the group of the pod.
    """
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"--key-file {path}: is not a file")
    if found.st_uid not in (os.getuid(), 0):
        raise ConfigurationError(f"--key-file {path}: belongs to another user")
    allowed = 0o740 if found.st_uid == 0 else 0o700
    if found.st_mode & 0o777 & ~allowed:
        mode = f"mode {found.st_mode & 0o777:04o}"
        raise ConfigurationError(f"--key-file {path}: others may read it ({mode}): chmod 600")


def _key(line: bytes, place: str) -> bytes:
    try:
        if re.fullmatch(rb"[0-9a-fA-F]+", line):
            key = bytes.fromhex(line.decode())
        else:
            key = base64.b64decode(line, validate=True)
    except (ValueError, binascii.Error):
        raise ConfigurationError(f"{place}: neither base64 nor hexadecimal") from None
    if len(key) < SIZE:
        raise ConfigurationError(f"{place}: {len(key)} bytes; a key has at least {SIZE}")
    return key
