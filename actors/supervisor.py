"""Supervisors: create, restart and drain their children, and know how they are.

Here is what every supervisor does, and the root, which has a unit for each connection,
and the clock. What a unit is, is in `actors.unit`.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from actors.context import Context
from actors.errors import Exit
from actors.logic.children import Children, Slot
from actors.plan import Plan
from actors.protocol import (
    AttemptFailed,
    ChildExited,
    Configure,
    Drain,
    Drained,
    Failed,
    NotReady,
    Ready,
    Reminder,
    ReportStatus,
    Status,
)

log = logging.getLogger("actors.supervisor")

#: Seconds between two rounds in which all that may have got lost is said again.
ROUND = 5.0
#: Seconds that a supervisor waits for its children's answers to a question.
PATIENCE = 0.5
#: Seconds of a drain that each level keeps for itself.
MARGIN = 0.5


class Supervisor:
    """Slots, restarts, rounds and questions, whatever the children are."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._parent = ""
        self._children = Children()
        self._failed = ""
        self._deadline: float | None = None  # of a drain
        self._left = 0
        self._asker = ""
        self._question = 0
        self._awaited: set[str] = set()

    def on(self, message: object, sender: str, now: float) -> None:
        if not (self._parent or isinstance(message, Configure)):
            return  # it overtook the first word; what matters is said again
        match message:
            case Configure():
                self._parent = sender
                self._configured(message, now)
            case Ready() | NotReady():
                if slot := self._children.named(sender):
                    self._heard(slot, message, now)
            case ChildExited(child=child, cause=cause):
                # Thespian may tell a death twice: by then the name is gone from its slot.
                if slot := self._children.named(child):
                    known = slot.ready
                    slot.vacate(cause)
                    self._died(slot, child, cause, known, now)
            case ReportStatus():
                self._ask_all(message, sender)
            case Status():
                self._answered(message, sender)
            case Reminder(what="status"):
                self._answer(message.generation)
            case Reminder(what="restart"):
                self._start_due(now)
            case Reminder(what="round"):
                self._round(now)
                self._context.remind(ROUND, Reminder("round"))
            case _:
                self._on_other(message, sender, now)

    # ── what each kind of supervisor adds ─────────────────────────────────────

    def _configured(self, message: Configure, now: float) -> None:
        raise NotImplementedError

    def _configure(self, slot: Slot) -> Configure:
        raise NotImplementedError

    def _heard(self, slot: Slot, message: Ready | NotReady, now: float) -> None:
        if isinstance(message, Ready):
            slot.play(message.pid)
        else:
            slot.pid, slot.ready, slot.state = message.pid, False, "waiting"
            slot.reason = message.cause

    def _died(self, slot: Slot, name: str, cause: str, known: bool, now: float) -> None:
        raise NotImplementedError

    def _on_other(self, message: object, sender: str, now: float) -> None:
        raise NotImplementedError

    def _report(self) -> dict[str, Any]:
        raise NotImplementedError

    def _round(self, now: float) -> None:
        """Say again what a child has not answered yet."""
        for slot in self._children:
            if slot.name and not slot.ready:
                self._context.send(slot.name, self._configure(slot))

    # ── starting and restarting ───────────────────────────────────────────────

    def _start(self, slot: Slot, now: float) -> None:
        name = slot.occupy(now, self._context.name)
        self._context.create(name, slot.role)
        self._context.send(name, self._configure(slot))

    def _restart(self, slot: Slot, cause: str, now: float, *, charged: bool) -> None:
        """Begin a slot anew, at once or after its backoff; too many deaths are the parent's."""
        if self._failed:
            return
        if charged and slot.intensity.exceeded(now):
            most, period = slot.intensity.deaths, slot.intensity.period
            self._fail(Exit.CRASH, f"{slot.path} died more than {most} times in {period:g} s")
            return
        delay = slot.backoff.fail(now - slot.since, self._context.random) if charged else 0.0
        log.warning(
            "%s died: %s; restart %d in %.1f s",
            *(slot.path, cause or "no cause known", slot.incarnation, delay),
            extra={"child": slot.path, "cause": cause, "delay": round(delay, 1)},
        )
        slot.due = now + delay
        if delay:
            self._context.remind(delay, Reminder("restart"))
        else:
            self._start_due(now)

    def _start_due(self, now: float) -> None:
        for slot in self._children:
            if slot.due is not None and now >= slot.due:
                self._start(slot, now)

    def _fail(self, code: int, reason: str) -> None:
        self._failed = self._failed or reason
        self._context.send(self._parent, Failed(code, reason))  # the launcher logs it, once

    # ── questions ─────────────────────────────────────────────────────────────

    def _ask_all(self, question: ReportStatus, sender: str) -> None:
        """Pass the question on, and answer once all have, or patience is over."""
        self._asker, self._question = sender, self._question + 1
        self._awaited = {slot.name for slot in self._children if slot.name}
        self._answer_round = question.round
        for name in self._awaited:
            self._context.send(name, ReportStatus(self._question))
        self._context.remind(PATIENCE, Reminder("status", self._question))
        if not self._awaited:
            self._answer(self._question)

    def _answered(self, message: Status, sender: str) -> None:
        if slot := self._children.named(sender):
            slot.report = message.report
        if message.round == self._question:
            self._awaited.discard(sender)
            if not self._awaited:
                self._answer(self._question)

    def _answer(self, question: int) -> None:
        if self._asker and question == self._question:
            asker, self._asker = self._asker, ""
            self._context.send(asker, Status(self._answer_round, json.dumps(self._report())))


class RootSupervisor(Supervisor):
    """The top: a unit for each connection, and the clock."""

    _plan: Plan

    def _configured(self, message: Configure, now: float) -> None:
        assert isinstance(message.plan, Plan)
        if not list(self._children):
            self._plan = message.plan
            self._dry: set[str] = set()
            for unit in self._plan.units:
                self._children.add(Slot("unit", unit.name))
            if self._plan.clock:
                self._children.add(Slot("clock", "clock"))
            for slot in self._children:
                self._start(slot, now)
            self._context.remind(ROUND, Reminder("round"))
        self._context.send(self._parent, Ready("root", self._context.pid))

    def _configure(self, slot: Slot) -> Configure:
        if slot.role == "clock":
            return Configure(self._plan, "clock")
        (unit,) = (unit for unit in self._plan.units if unit.name == slot.path)
        return Configure(unit, "unit")

    def _died(self, slot: Slot, name: str, cause: str, known: bool, now: float) -> None:
        if self._deadline is None:
            self._restart(slot, cause, now, charged=True)
        else:
            self._advance_drain()

    def _on_other(self, message: object, sender: str, now: float) -> None:
        match message:
            case AttemptFailed():
                for slot in self._children.of("clock"):
                    if slot.name:
                        self._context.send(slot.name, message)
            case Failed(code=code, reason=reason):
                self._fail(code, reason)
            case Drain(seconds=seconds):
                self._drain(seconds, now)
            case Drained(left=left):
                self._drained(sender, left, now)
            case Reminder(what="deadline"):
                for slot in self._children:
                    if slot.name:
                        self._left += 1
                        self._context.kill(slot.name)
            case _:
                raise TypeError(f"the root has no use for {message}")

    def _drained(self, sender: str, left: int, now: float) -> None:
        slot = self._children.named(sender)
        if slot is None:
            return
        if self._deadline is not None:
            if slot.state != "drained":
                self._left += left
                slot.state = "drained"
            self._context.kill(slot.name)
            return
        self._dry.add(slot.path)  # a burst: its queues are empty
        if self._dry >= {unit.name for unit in self._plan.units}:
            self._drain(self._plan.shutdown_timeout, now)

    def _drain(self, seconds: float, now: float) -> None:
        if self._deadline is None:
            self._deadline = now + seconds
            self._context.remind(max(0.0, seconds - MARGIN), Reminder("deadline"))
        self._advance_drain()

    def _advance_drain(self) -> None:
        """The units first, then the clock, then oneself."""
        seconds = self._plan.shutdown_timeout - 2 * MARGIN
        units = [slot for slot in self._children.of("unit") if slot.name]
        clocks = [slot for slot in self._children.of("clock") if slot.name]
        for slot in units or clocks:
            self._context.send(slot.name, Drain(max(MARGIN, seconds)))
        if not units and not clocks:
            self._context.send(self._parent, Drained(self._left))

    def _round(self, now: float) -> None:
        super()._round(now)
        if self._deadline is not None:
            self._advance_drain()

    def _report(self) -> dict[str, Any]:
        host, pid = self._context.host, self._context.pid
        reports = [json.loads(slot.report) for slot in self._children.of("unit")]
        routes = [route for report in reports for route in report.get("routes", ())]
        actors = [actor for report in reports for actor in report.get("actors", ())]
        actors += [slot.status(host) for slot in self._children.of("clock")]
        root = Slot("supervisor", "root", pid=pid, state=self._state)
        keys = ("received", "acked", "rejected", "requeued", "retried", "dead", "in_flight")
        totals = {key: sum(route[key] for route in routes) for key in keys}
        totals["stale"] = sum(report.get("stale", 0) for report in reports)
        return {
            "app": self._plan.app,
            "name": self._plan.name,
            "version": self._plan.version,
            "state": self._state,
            "ready": self._state == "running",
            "since": self._plan.since,
            "actors": [root.status(host), *actors],
            "routes": routes,
            "totals": totals,
        }

    @property
    def _state(self) -> str:
        if self._failed:
            return "failed"
        if self._deadline is not None:
            return "draining"
        reports = [json.loads(slot.report) for slot in self._children.of("unit")]
        return "running" if all(report.get("ready") for report in reports) else "starting"
