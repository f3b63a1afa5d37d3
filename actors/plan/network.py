"""Addresses and keys by which other hosts reach a system.

A key file holds one key a line, in base64 or hexadecimal, blank lines and `#` comments aside. The
first seals, all open: that is what a rotation needs.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path

from actors.errors import ConfigurationError, UnreachableError
from actors.plan.settings import Settings


@dataclass(frozen=True, slots=True)
class Network:
    """The address at which a system meets others; every socket of it binds to `host` alone."""

    host: str  #: IPv4 address of this host
    port: int = 0  #: of the admin; 0: any free one
    keys: tuple[bytes, ...] = field(default=(), repr=False)  #: the first seals, all open
    leaders: tuple[str, ...] = ()  #: HOST:PORT of first hosts, tried in order; empty: this is one
    key_file: str = ""  #: where the keys are from


def network_of(settings: Settings) -> Network | None:
    """What `--listen`, `--join` and `--key-file` come to; None: loopback, and nothing else.

    Raises `ConfigurationError`, and `UnreachableError` where no way leads to whom to join.
    """
    if not (settings.listen or settings.join):
        return None
    setting = f"--listen {settings.listen}" if settings.listen else f"--join {settings.join[0]}"
    if not settings.key_file:
        raise ConfigurationError(
            f"{setting}: other hosts are met with a key only: write what `callboard key` prints "
            "to a file of mode 600 and name it with --key-file"
        )
    key_file = str(Path(settings.key_file).absolute())
    keys = read_keys(key_file)
    if not settings.listen:
        return Network(_address_towards(settings.join), 0, keys, settings.join, key_file)
    name, _, port = settings.listen.rpartition(":")
    host = _own(name, setting)
    return Network(host, int(port), keys, settings.join, key_file)


def host_address(name: str) -> str:
    """The IPv4 address that a host's name stands for; raises `OSError`."""
    found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    return str(found[0][4][0])


def _own(name: str, setting: str) -> str:
    """The address of this host that a name stands for."""
    try:
        address = host_address(name)
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError:
        raise ConfigurationError(f"{setting}: {name} is not an IPv4 address of this host") from None
    if address == "0.0.0.0":
        raise ConfigurationError(f"{setting}: name the address at which others reach this host")
    return address


def _address_towards(leaders: tuple[str, ...]) -> str:
    """The address of this host that packets for the first reachable leader come from."""
    cause = ""
    for leader in leaders:
        host, _, port = leader.rpartition(":")
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # nothing is sent
                probe.connect((host_address(host), int(port)))
                return str(probe.getsockname()[0])
        except OSError as problem:
            cause = cause or f"--join {leader}: {problem.strerror}"
    raise UnreachableError(cause)


KEY_SIZE = 32  #: bytes that a key has at least


def fresh_key() -> str:
    """A new key, as a line of the file."""
    return base64.b64encode(secrets.token_bytes(KEY_SIZE)).decode()


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
    if len(key) < KEY_SIZE:
        raise ConfigurationError(f"{place}: {len(key)} bytes; a key has at least {KEY_SIZE}")
    return key
