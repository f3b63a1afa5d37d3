"""Addresses and keys by which other hosts reach a system."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from actors.errors import ConfigurationError, UnreachableError
from actors.plan.keys import read_keys
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


def address_of(name: str) -> str:
    """The IPv4 address that a host's name stands for; raises `OSError`."""
    found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    return str(found[0][4][0])


def _own(name: str, setting: str) -> str:
    """The address of this host that a name stands for."""
    try:
        address = address_of(name)
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
                probe.connect((address_of(host), int(port)))
                return str(probe.getsockname()[0])
        except OSError as problem:
            cause = cause or f"--join {leader}: {problem.strerror}"
    raise UnreachableError(cause)
