"""The one connection that a verb for people works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from actors.api.connections import Connection, parse_connection, split_name
from actors.api.connector import Connector, connectors
from actors.errors import ConfigurationError
from actors.plan.resolve import NO_CONNECTION


def only(arguments: Sequence[str], suits: Callable[[Connector], object]) -> tuple[str, Connection]:
    """The URL of the only connection named whose connector suits, and the connection.

    Raises `ConfigurationError` where none or several are.
    """
    if not arguments:
        raise ConfigurationError(NO_CONNECTION)
    named = [split_name(argument) for argument in arguments]
    found = [(url, parse_connection(url, name or None)) for name, url in named]
    kinds = [connector.kind for connector in connectors() if suits(connector)]
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
