"""How a system is reached: plain data, from what the settings come to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Network:
    """Where a system meets others; every socket of it binds to `host`, and no other address."""

    host: str  #: IPv4 address of this host
    port: int = 0  #: of the admin; 0: any free one
    keys: tuple[bytes, ...] = field(default=(), repr=False)  #: the first seals, all open
    leaders: tuple[str, ...] = ()  #: HOST:PORT of first hosts, tried in order; empty: this is one
