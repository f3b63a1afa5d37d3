"""The notifications of a service of `Type=notify`: sd_notify(3), and nothing else of systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from math import inf

from actors.log import own_logger

log = own_logger("actors.system")

#: Seconds for systemd to take a word; it is read by a process that does little else.
SEND_TIMEOUT_S = 1.0


class SystemdNotifier:
    """Speaks to the socket that systemd named; without one it says nothing.

    What named it is taken out of the environment: what handlers start must not speak for
    the service.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        watched = environment.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.told = address.startswith(("/", "@"))
        self.interval = inf  #: seconds between two signs of life: half of what systemd waits
        self._socket: socket.socket | None = None
        if address and not self.told:
            log.warning("NOTIFY_SOCKET: neither a path nor an abstract name: %s", address)
        if self.told:
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(SEND_TIMEOUT_S)
            if watched and microseconds.isdecimal() and int(microseconds):
                self.interval = int(microseconds) / 2e6

    @property
    def watches(self) -> bool:
        """Whether signs of life are asked for."""
        return self.interval < inf

    def tell(self, *assignments: str) -> bool:
        """Send `NAME=value` lines; whether systemd took them."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(assignments).encode(), self._address)
        except OSError as error:
            log.debug("systemd took no word: %s", error)
            return False
        return True

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
