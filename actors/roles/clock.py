"""The clock: one process an app and host for its timers and callbacks."""

from __future__ import annotations

from actors.plan.plan import Plan
from actors.roles.port import ClockRunner
from actors.roles.protocol import AttemptFailed, Configure
from actors.roles.usercode import UserCodeActor


class Clock(UserCodeActor[ClockRunner]):
    """Runs what the user wants run by time and not by message."""

    role = "clock"

    def _client_for(self, message: Configure) -> ClockRunner:
        assert isinstance(message.plan, Plan)
        runner: ClockRunner = self._context.client("clock", message.plan)
        return runner

    def _work(self, message: object, sender: str, now: float, code: ClockRunner) -> None:
        if not isinstance(message, AttemptFailed):
            raise TypeError(f"a clock has no use for {message}")
        code.connection_failed(message.connection, message.cause, message.fault, message.retries)
