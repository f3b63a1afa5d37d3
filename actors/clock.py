"""The clock: one process an app and host for its timers and callbacks."""

from __future__ import annotations

import json

from actors.clients import ClockRunner, Ended, Started, StartFailed
from actors.context import Context
from actors.logic.restart import Backoff
from actors.plan import Plan
from actors.protocol import (
    AttemptFailed,
    Configure,
    Drain,
    Drained,
    NotReady,
    Ready,
    Reminder,
    ReportStatus,
    Status,
)


class Clock:
    """Runs what the user wants run by time and not by message."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._supervisor = ""
        self._runner: ClockRunner | None = None
        self._ready = False
        self._reason = ""
        self._backoff = Backoff()

    def on(self, message: object, sender: str, now: float) -> None:
        if not (self._runner or isinstance(message, Configure)):
            return  # it overtook the first word; what matters is said again
        match message:
            case Configure():
                self._configure(message, sender)
            case Started():
                self._ready, self._reason = True, ""
                self._context.send(self._supervisor, Ready("clock", self._context.pid))
            case AttemptFailed(connection, cause, fault, retries):
                self._user_code.connection_failed(connection, cause, fault, retries)
            case StartFailed(cause=cause):
                self._reason = cause
                self._context.send(self._supervisor, NotReady("clock", self._context.pid, cause))
                delay = self._backoff.fail(0.0, self._context.random)
                self._context.remind(delay, Reminder("start"))
            case Reminder():
                self._user_code.start()
            case Drain():
                self._user_code.stop()
            case Ended():
                self._context.send(self._supervisor, Drained())
                self._context.exit()
            case ReportStatus():
                report = json.dumps({"reason": self._reason})
                self._context.send(sender, Status(message.round, report))
            case _:
                raise TypeError(f"a clock has no use for {message}")

    @property
    def _user_code(self) -> ClockRunner:
        assert self._runner is not None, "a clock is configured first"
        return self._runner

    def _configure(self, message: Configure, sender: str) -> None:
        self._supervisor = sender
        if self._runner is None:
            assert isinstance(message.plan, Plan)
            self._runner = self._context.client("clock", message.plan)
            self._user_code.start()
        elif self._ready:
            self._context.send(sender, Ready("clock", self._context.pid))
