"""The one connection that a verb for people works on."""

from __future__ import annotations

from collections.abc import Sequence

from actors.api.connections import Connection, parse_connection, split_name
from actors.errors import ConfigurationError
from actors.plan.resolve import NO_CONNECTION


def only(arguments: Sequence[str], kinds: Sequence[str]) -> tuple[str, Connection]:
    """The URL and what it stands for, of the only connection named that is of these kinds.

    Raises `ConfigurationError` where none or several are.
    """
    if not arguments:
        raise ConfigurationError(NO_CONNECTION)
    named = [split_name(argument) for argument in arguments]
    found = [(url, parse_connection(url, name or None)) for name, url in named]
    fitting = [(url, connection) for url, connection in found if connection.kind in kinds]
    if not fitting:
        raise ConfigurationError(
            f"connection {found[0][1].name}: is of kind {found[0][1].kind}; this works on"
            f" {' and '.join(kinds)}"
        )
    if len(fitting) > 1:
        names = ", ".join(connection.name for _, connection in fitting)
        raise ConfigurationError(
            f"several connections are named ({names}): name one with --connection"
        )
    return fitting[0]
