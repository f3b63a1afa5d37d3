"""The health of a running system, for probes, for Prometheus, and for systemd.

The launcher asks the root and passes on here what it hears; nobody else is asked.
"""

from __future__ import annotations

import os
import shutil
import time
from http import HTTPStatus
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from actors.errors import ConfigurationError
from actors.ops.health_server import Answer, ProbeServer
from actors.ops.systemd import SystemdNotifier
from actors.roles.supervision.report import why
from actors.usercode.metrics_registry import DIRECTORY

INTERVAL = 1.0  #: seconds between two questions to the root
LIVE_FOR = 30.0  #: seconds of silence that the root may need under load, or in one stall
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Told by the launcher what its system says; tells it to whoever asks.

    Without an address and without systemd it does nothing, and asks for nothing. The
    directory, where metrics are kept, exists while its context is open.
    """

    def __init__(self, address: str, directory: Path, host: str = "") -> None:
        self._address = address
        self._directory = directory
        self._host = host  # as the report names this one
        self._systemd = SystemdNotifier()
        self._server: ProbeServer | None = None
        self._report: dict[str, Any] = {}
        self._heard_at = time.monotonic()
        self._draining = False
        self._page = (0.0, b"")  # when it was made
        self._said = ""  # to systemd
        self._was_ready = False

    # ── for the launcher ──────────────────────────────────────────────────────

    @property
    def interval(self) -> float:
        """Seconds between two questions to the root; infinite where nobody listens."""
        wanted = INTERVAL if self._address or self._systemd.told else inf
        return min(wanted, self._systemd.interval)

    def __enter__(self) -> Self:
        shutil.rmtree(self._directory, ignore_errors=True)  # of one that was killed
        if self._address:
            import actors.ops.exposition  # noqa: F401  # before the forks, which share it

            _make(self._directory)
            os.environ[DIRECTORY] = str(self._directory)
        return self

    def open(self) -> None:
        """Begin to answer; after the forks, or actors would hold the address.

        Raises `ConfigurationError` where it cannot be had.
        """
        if self._address:
            self._server = ProbeServer(self._address, self.answer)

    def hear(self, report: dict[str, Any]) -> None:
        """The root has answered."""
        self._report, self._heard_at = report, time.monotonic()

    def drain(self, seconds: float) -> None:
        """The end of this host has begun, and may take so many seconds."""
        if not self._draining:
            self._draining = True
            self._systemd.tell("STOPPING=1", "STATUS=draining", _extension(seconds + LIVE_FOR))

    def look(self, now: float) -> None:
        """Tell systemd what is new; to be called once each interval."""
        if not self._systemd.told or not self._alive(now):
            return
        obstacle = self._unready()
        words = ["WATCHDOG=1"] if self._systemd.watches else []
        if not self._was_ready and not self._draining:
            # A broker that is away is waited for: that is no failure of this service.
            words.append(_extension(LIVE_FOR) if obstacle else "READY=1")
        status = f"STATUS={why(self._report) if obstacle else 'ready'}"
        if status != self._said and not self._draining:
            words.append(status)
        if words and self._systemd.tell(*words):
            self._said = status
            self._was_ready = self._was_ready or not obstacle

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._server:
            self._server.close()
        if self._address:
            os.environ.pop(DIRECTORY, None)
            shutil.rmtree(self._directory, ignore_errors=True)
        self._systemd.close()

    # ── for those who ask, in the server's thread ─────────────────────────────

    def answer(self, path: str) -> Answer | None:
        """What is said to a path."""
        now = time.monotonic()
        if path == "/livez":
            return _outcome("" if self._alive(now) else "silent")
        if path == "/readyz":
            return _outcome(self._unready() if self._alive(now) else "silent")
        if path == "/metrics" and self._report:
            return Answer(HTTPStatus.OK, self._metrics(), METRICS_TYPE)
        return _outcome("starting") if path == "/metrics" else None

    def _alive(self, now: float) -> bool:
        return now - self._heard_at < LIVE_FOR

    def _unready(self) -> str:
        """One word; none where it is ready."""
        if self._draining:
            return "draining"
        state = str(self._report.get("state", "starting"))
        return "" if self._report.get("ready") else state

    def _metrics(self) -> bytes:
        """The page, made once for each answer of the root, however often it is asked for."""
        from actors.ops.exposition import exposition

        made_at, page = self._page
        if made_at < self._heard_at or not page:
            page = exposition(self._report, self._host, self._directory)
            self._page = (self._heard_at, page)
        return page


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"--health: {directory}: {error.strerror}") from None


def _extension(seconds: float) -> str:
    """Have systemd wait for so long."""
    return f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"


def _outcome(word: str) -> Answer:
    """200 where nothing stands against it, or 503 and the word that does."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if word else HTTPStatus.OK
    return Answer(status, f"{word or 'ok'}\n".encode())
