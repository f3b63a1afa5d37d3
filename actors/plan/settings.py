"""Settings: what flags, environment, configuration file and code come to."""

from __future__ import annotations

import re
import socket
from typing import Literal, Self

from pydantic import Field, model_validator

from actors.api.schema import Schema
from actors.errors import ConfigurationError
from actors.logic.supervision.placement import parse_offers


class Settings(Schema):
    """The settings of a run: what the command line resolved, or the defaults.

    Raises `ConfigurationError`.
    """

    connections: tuple[str, ...] = Field(default=(), repr=False)  #: `[NAME=]URL`, secrets included
    routes: tuple[str, ...] = ()  #: names of the routes to run; empty: all
    prefetch: int | None = Field(default=None, ge=1, le=65535)  #: for each queue, over the code's
    burst: bool = False  #: end when the queues are empty; implies that nothing is waited for
    wait: bool = True  #: wait for a broker that cannot be reached
    shutdown_timeout: float = Field(default=25.0, ge=0)  #: seconds for the whole drain
    name: str = ""  #: of the system, letters, digits and "_.:@-"; empty: the app's
    admin_port: int = Field(default=0, ge=0, le=65535)  #: 0: any free one
    app_dir: str = "."
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_format: Literal["", "text", "json"] = ""  #: empty: what suits stderr
    #: What this host is called among those that join each other: as a system, without "@".
    host_name: str = Field(default_factory=socket.gethostname)
    offer: tuple[str, ...] = ()  #: `KEY` or `KEY=VALUE`: what this host has that routes require
    #: Where handlers run: on every host that offers what they require, or on the first alone.
    placement: Literal["spread", "local"] = "spread"
    health: str = ""  #: `HOST:PORT` to answer probes on; empty: nowhere
    listen: str = ""  #: `HOST:PORT` at which other hosts may join this system
    join: tuple[str, ...] = ()  #: `HOST:PORT` of the first host, or of several, tried in order
    key_file: str = ""  #: of the keys that the hosts share
    max_bytes: int = Field(default=0, ge=0)  #: unsettled bytes over all connections; 0: no limit

    @model_validator(mode="after")
    def _names_are_names(self) -> Self:
        for field, name, marks in (
            ("name", self.name or "-", "_.:@-"),
            ("host_name", self.host_name, "_.:-"),
        ):
            if not re.fullmatch(rf"[\w{marks}]+", name):
                raise ConfigurationError(
                    f"setting {field}: is made of letters, digits and {marks!r}, not {name!r}"
                )
        return self

    @model_validator(mode="after")
    def _addresses_are_addresses(self) -> Self:
        given = [("health", self.health), ("listen", self.listen)]
        given += [("join", each or "''") for each in self.join]
        for name, address in given:
            host, _, port = address.rpartition(":")
            if re.search(r"[/@?#\s]", address):  # not shown: a URL may hold a password
                raise ConfigurationError(
                    f"setting {name}: must be HOST:PORT, as 127.0.0.1:9464, and not a URL"
                )
            if address and not (host and port.isdecimal() and int(port) <= 65535):
                raise ConfigurationError(f"setting {name}: must be HOST:PORT, not {address!r}")
        return self

    @model_validator(mode="after")
    def _one_port_of_the_admin(self) -> Self:
        if self.listen and self.admin_port:
            raise ConfigurationError("--admin-port: with --listen its port is that of the admin")
        return self

    @model_validator(mode="after")
    def _offers_are_readable(self) -> Self:
        try:
            parse_offers(self.offer)
        except ValueError as error:
            raise ConfigurationError(f"setting offer: {error}") from None
        return self
