"""The handler: runs the user's code on bulks and answers each with a settlement.

It remembers every answer until the batcher confirms it, so that a bulk which comes
twice runs once and a settlement which got lost is said again.
"""

from __future__ import annotations

import json
from typing import Any

from actors.clients import Done, Ended, Runner, Started, StartFailed
from actors.context import Context
from actors.logic.restart import Backoff
from actors.plan import UnitPlan
from actors.protocol import (
    Bulk,
    Configure,
    Drain,
    Drained,
    Held,
    NotReady,
    Ready,
    Reminder,
    ReportStatus,
    Settlement,
    Status,
)


class Handler:
    """One process of user code for one route."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._supervisor = ""
        self._runner: Runner | None = None
        self._ready = False
        self._reason = ""
        self._backoff = Backoff()
        self._in_flight = 1
        self._working: set[int] = set()
        self._answered: dict[int, Settlement] = {}
        # Numbers below this one are refused, but for those that the batcher still waits for.
        self._closed_below = 0
        self._awaited: set[int] = set()
        self._batcher = ""

    def on(self, message: object, sender: str, now: float) -> None:
        if not (self._runner or isinstance(message, Configure)):
            return  # it overtook the first word; what matters is said again
        match message:
            case Bulk():
                self._bulk(message, sender)
            case Done():
                self._done(message)
            case Held():
                self._held(message, sender)
            case Configure():
                self._configure(message, sender)
            case Started():
                self._ready, self._reason = True, ""
                self._context.send(self._supervisor, Ready("handler", self._context.pid))
            case StartFailed():
                self._start_failed(message.cause)
            case Reminder():
                self._user_code.start()
            case Drain():
                self._user_code.stop()
            case Ended():
                self._context.send(self._supervisor, Drained())
                self._context.exit()
            case ReportStatus():
                self._context.send(sender, Status(message.round, self._report()))
            case _:
                raise TypeError(f"a handler has no use for {message}")

    @property
    def _user_code(self) -> Runner:
        assert self._runner is not None, "a handler is configured first"
        return self._runner

    def _configure(self, message: Configure, sender: str) -> None:
        self._supervisor = sender
        if self._runner is None:
            assert isinstance(message.plan, UnitPlan)
            (route,) = (r for r in message.plan.routes if r.name == message.route)
            self._in_flight = route.in_flight
            self._runner = self._context.client("runner", (message.plan, message.route))
            self._user_code.start()
        elif self._ready:
            self._context.send(sender, Ready("handler", self._context.pid))

    def _start_failed(self, cause: str) -> None:
        """Nothing is fetched for this handler; its start is tried again."""
        self._reason = cause
        self._context.send(self._supervisor, NotReady("handler", self._context.pid, cause))
        delay = self._backoff.fail(0.0, self._context.random)
        self._context.remind(delay, Reminder("start"))

    def _bulk(self, bulk: Bulk, sender: str) -> None:
        self._batcher = sender
        numbers = set(range(bulk.number, bulk.number + len(bulk.sizes)))
        self._awaited = {n for n in self._awaited if n >= bulk.open_from}
        self._close(bulk.open_from, self._awaited)
        if any(self._refuses(number) for number in numbers):
            # It came before, in whole or in part; what is missing the batcher sends again.
            return
        self._working |= numbers
        self._user_code.submit(bulk)
        if self._in_flight > 1:
            self._context.send(sender, Held(tuple(self._working | self._answered.keys())))

    def _refuses(self, number: int) -> bool:
        if number in self._working or number in self._answered:
            return True
        return number < self._closed_below and number not in self._awaited

    def _done(self, done: Done) -> None:
        self._working.difference_update(done.numbers)
        settlement = Settlement(0, done.numbers, done.ranges, done.singles, done.error)
        self._answered.update(dict.fromkeys(done.numbers, settlement))
        self._context.send(self._batcher, settlement)

    def _held(self, message: Held, sender: str) -> None:
        """Say again what the batcher still waits for, and what is here."""
        if message.next < self._closed_below:
            return  # overtaken by a later one
        self._close(message.next, set(message.numbers))
        again = {id(s): s for number, s in self._answered.items() if number in self._awaited}
        for settlement in again.values():
            self._context.send(sender, settlement)
        self._context.send(sender, Held(tuple(self._working | self._answered.keys())))

    def _close(self, below: int, awaited: set[int]) -> None:
        """The batcher has all answers below a number but the awaited ones; should a bulk of
        the others still come, it is refused, and what was refused once is refused for ever."""
        awaited = {n for n in awaited if n >= self._closed_below or n in self._awaited}
        if below >= self._closed_below:
            self._closed_below, self._awaited = below, awaited
        for number in [n for n in self._answered if n < below and n not in awaited]:
            del self._answered[number]

    def _report(self) -> str:
        report: dict[str, Any] = {"reason": self._reason, "bulks": len(self._working)}
        return json.dumps(report)
