"""The names of a system's first hosts, looked up again and again."""

from __future__ import annotations

from threading import Event, Thread
from typing import Any

from actors.log import own_logger
from actors.plan import network
from actors.stages.thespian.transport import address_of

log = own_logger("actors.host")

INTERVAL = 10.0  #: seconds between two looks: a leader that was started anew has moved


class Leaders:
    """The admins of first hosts, by the HOST:PORT that was given for each."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._told = self._found = self._look_up()
        self._closed = Event()
        if names:  # in a thread, because a resolver may take seconds
            Thread(target=self._keep_looking, name="leaders", daemon=True).start()

    def addresses(self) -> tuple[tuple[str, Any], ...]:
        """The names with their addresses, as far as they are known."""
        self._told = self._found
        return tuple((name, address_of(port, host)) for name, (host, port) in self._told.items())

    def moved(self) -> bool:
        """Whether `addresses` would say something new."""
        return self._found != self._told

    def close(self) -> None:
        self._closed.set()

    def _keep_looking(self) -> None:
        while not self._closed.wait(INTERVAL):
            try:
                self._found = {**self._found, **self._look_up()}
            except Exception as error:  # of threads or memory, say: there may be more soon
                log.warning("hosts to join cannot be looked up: %r; tried again", error)

    def _look_up(self) -> dict[str, tuple[str, int]]:
        found = {}
        for name in self._names:
            host, _, port = name.rpartition(":")
            try:
                found[name] = (network.address_of(host), int(port))
            except (OSError, UnicodeError):
                continue  # it may come; until then its actors cannot be sent to
        return found
