"""The life of an actor that runs user code: starts it, tries again, ends it.

What the code is run for is in `actors.roles.handler` and `actors.roles.clock`.
"""

from __future__ import annotations

import json
from typing import Generic, TypeVar

from actors.log import own_logger
from actors.logic.supervision.restart import Backoff
from actors.roles.context import Context
from actors.roles.port import Code, Ended, Started, StartFailed
from actors.roles.protocol import (
    Configure,
    Drain,
    Drained,
    NotReady,
    Ready,
    Reminder,
    ReportStatus,
    Status,
)

log = own_logger("actors.handler")

C = TypeVar("C", bound=Code)


class UserCodeActor(Generic[C]):
    """Ready once the code has started; where its start fails, that is tried again."""

    role = ""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._supervisor = ""
        self._code: C | None = None
        self._ready = False
        self._ending = False
        self._reason = ""
        self._backoff = Backoff()

    def on(self, message: object, sender: str, now: float) -> None:
        if isinstance(message, Configure):
            self._configured(message, sender)
        elif self._code is not None:  # what overtook the first word is said again
            self._live(message, sender, now, self._code)

    def _live(self, message: object, sender: str, now: float, code: C) -> None:
        match message:
            case Started():
                self._ready, self._reason = True, ""
                self._context.send(self._supervisor, Ready(self.role, self._context.pid))
            case StartFailed(cause=cause):
                self._reason = cause
                self._context.send(self._supervisor, NotReady(self.role, self._context.pid, cause))
                delay = self._backoff.fail(0.0, self._context.random)
                name = self._context.name.partition("#")[0]
                log.warning("%s: not started: %s; tried again in %.1f s", name, cause, delay)
                self._context.remind(delay, Reminder("start"))
            case Reminder():
                code.start()
            case Drain():
                if not self._ending:  # it is said again, and hooks run once
                    self._ending = True
                    code.stop()
            case Ended():
                self._context.send(self._supervisor, Drained())
                self._context.exit()
            case ReportStatus():
                report = json.dumps({"reason": self._reason})
                self._context.send(sender, Status(message.round, report))
            case _:
                self._work(message, sender, now, code)

    def _configured(self, message: Configure, sender: str) -> None:
        self._supervisor = sender
        if self._code is None:
            self._code = self._client_for(message)
            self._code.start()
        elif self._ready:
            self._context.send(sender, Ready(self.role, self._context.pid))

    def _client_for(self, message: Configure) -> C:
        """The code that the plan names."""
        raise NotImplementedError

    def _work(self, message: object, sender: str, now: float, code: C) -> None:
        """What the code is there for."""
        raise NotImplementedError
