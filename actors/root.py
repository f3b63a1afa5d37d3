"""The root: the top of a system, with a unit for each connection, and the clock."""

from __future__ import annotations

import json
from typing import Any

from actors.logic.children import Slot
from actors.plan import Plan
from actors.protocol import (
    AttemptFailed,
    Configure,
    Drain,
    Drained,
    Failed,
    Ready,
    Reminder,
)
from actors.supervisor import MARGIN, ROUND, Supervisor


class RootSupervisor(Supervisor):
    """Has the units play, and ends the system once they have ended."""

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
