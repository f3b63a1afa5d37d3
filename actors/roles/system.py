"""The root: the top of a system, with a unit for each connection, and the clock."""

from __future__ import annotations

import json
from typing import Any

from actors.logic.children import Slot, actor_status
from actors.logic.drain import MARGIN_S, Deadline
from actors.logic.members import Members
from actors.plan.plan import Plan
from actors.roles.joining import Join, Joined, Leave, Leaving
from actors.roles.protocol import (
    AttemptFailed,
    Configure,
    Drain,
    Drained,
    Failed,
    Ready,
    Reminder,
)
from actors.roles.report import of_system
from actors.roles.supervisor import ROUND, Supervisor


class RootSupervisor(Supervisor):
    """Has the units play, and ends the system once they have ended."""

    _plan: Plan
    _members: Members

    def on(self, message: object, sender: str, now: float) -> None:
        self._now = now
        super().on(message, sender, now)

    def _configured(self, message: Configure, now: float) -> None:
        assert isinstance(message.plan, Plan)
        if not list(self._children):
            self._plan = message.plan
            self._left = 0  # deliveries that a drain left
            self._dry: set[str] = set()
            self._drained_units: set[str] = set()
            self._members = Members(self._plan.host, self._plan.app, self._plan.version)
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
            case Join():
                self._join(message, sender, now)
            case Leave(host=host):
                self._context.send(sender, self._have_leave(host, now))
            case Drain(seconds=seconds):
                self._drain(seconds, now)
            case Drained(left=left):
                self._drained(sender, left, now)
            case Reminder(what="deadline"):
                for slot in self._children:
                    if slot.name:
                        self._left += slot.role == "unit"  # one delivery at least
                        self._context.kill(slot.name)
            case _:
                raise TypeError(f"the root has no use for {message}")

    def _join(self, message: Join, sender: str, now: float) -> None:
        """A host may have handlers of the units, if it runs the same app."""
        member = self._members.hear(
            *(sender, message.host, message.app, message.version, message.pid, message.state, now)
        )
        open_to_it = self._deadline is None and not member.refused
        units = [slot.name for slot in self._children.of("unit") if slot.pid and open_to_it]
        self._context.send(sender, Joined(tuple(units), member.refused, member.leave))

    def _have_leave(self, host: str, now: float) -> Leaving:
        if host == self._plan.host:
            self._drain(self._plan.shutdown_timeout, now)
        elif not self._members.drain(host):
            names = ", ".join(self._members.names())
            return Leaving(f"no host is named {host}; there are: {names}")
        return Leaving()

    def _drained(self, sender: str, left: int, now: float) -> None:
        slot = self._children.named(sender)
        if slot is None:
            return
        if self._deadline is not None:
            if slot.name not in self._drained_units:
                self._left += left
                self._drained_units.add(slot.name)
            self._context.kill(slot.name)
            return
        self._dry.add(slot.path)  # a burst: its queues are empty
        if self._dry >= {unit.name for unit in self._plan.units}:
            self._drain(self._plan.shutdown_timeout, now)

    def _drain(self, seconds: float, now: float) -> None:
        if self._deadline is None:
            self._deadline = Deadline(now + seconds)
            self._context.remind(max(0.0, seconds - MARGIN_S), Reminder("deadline"))
        self._advance_drain()

    def _advance_drain(self) -> None:
        """The units first, then the clock, then oneself."""
        assert self._deadline is not None
        seconds = self._deadline.left_for_children(self._now)
        units = [slot for slot in self._children.of("unit") if slot.name]
        clocks = [slot for slot in self._children.of("clock") if slot.name]
        for slot in units or clocks:
            self._context.send(slot.name, Drain(seconds))
        if not units and not clocks:
            self._context.send(self._parent, Drained(self._left))

    def _round(self, now: float) -> None:
        super()._round(now)
        if self._deadline is not None:
            self._advance_drain()

    def _report(self) -> dict[str, Any]:
        host, pid = self._plan.host, self._context.pid
        units = [json.loads(slot.report) for slot in self._children.of("unit")]
        root = actor_status("supervisor", "root", host, self._state, pid=pid)
        actors = [root, *self._members.status(self._now)]
        actors += [actor for report in units for actor in report.get("actors", ())]
        actors += [slot.status(host) for slot in self._children.of("clock")]
        return of_system(self._plan, self._state, actors, units)

    @property
    def _state(self) -> str:
        if self._failed:
            return "failed"
        if self._deadline is not None:
            return "draining"
        reports = [json.loads(slot.report) for slot in self._children.of("unit")]
        return "running" if all(report.get("ready") for report in reports) else "starting"
