"""The connection that a call or an event of an app goes by."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from actors.api.connections import parse_connection, split_name
from actors.errors import InvalidConnection, NotSupported

if TYPE_CHECKING:
    from actors.api.app import App

#: Kind and settings of connections, by name.
Places = dict[str, tuple[str, str]]


def place_of(
    app: App, connection: str, what: str, able: Callable[[Places], Places]
) -> tuple[str, str]:
    """Kind and settings of the connection of a name; empty: of the only one that is able to.

    Raises `InvalidConnection` where there is none or several, and `NotSupported` where none is
    able to.
    """
    running = {name: (kind, settings) for name, kind, settings in app.places}
    places = running or _declared(app)
    if connection:
        if connection not in places:
            known = ", ".join(places) or "none"
            raise InvalidConnection(f"no connection is named {connection!r}; there are: {known}")
        return places[connection]
    fitting = able(places)
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        raise InvalidConnection(
            f"several connections take {what}: name one, connection=: {', '.join(fitting)}"
        )
    if places:
        kinds = ", ".join(f"{name} is of kind {place[0]}" for name, place in places.items())
        raise NotSupported(
            f"no connection of the app takes {what} ({kinds})"
            + (": tasks need SpoolConnection() or AMQPConnection()" if what == "jobs" else "")
        )
    raise InvalidConnection(
        f"the app has no connection, and CALLBOARD_CONNECTION names none: say where {what} are"
        " put, for example amqp://localhost/"
    )


def _declared(app: App) -> Places:
    """What the app declares, with CALLBOARD_CONNECTION in the place of what it names."""
    places = {
        name: (one.kind, one.as_json(getattr(one, "vhost", ""), {}))
        for name, one in app.connections.items()
    }
    for argument in os.environ.get("CALLBOARD_CONNECTION", "").split():
        name, url = split_name(argument)
        given = parse_connection(url, name or None)
        name = name or (next(iter(places)) if len(places) == 1 else given.name)
        places[name] = (given.kind, given.as_json(getattr(given, "vhost", ""), {}))
    return places
