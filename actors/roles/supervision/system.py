"""The root: the top of a system, with a pipeline for each connection, and the clock."""

from __future__ import annotations

import json
from typing import Any

from actors.logic.supervision.children import Slot, actor_status
from actors.logic.supervision.drain import MARGIN_S, Deadline
from actors.logic.supervision.node_directory import NodeDirectory
from actors.plan.plan import Plan
from actors.roles.protocol import (
    AttemptFailed,
    Configure,
    Drain,
    Drained,
    Failed,
    Ready,
    Reminder,
)
from actors.roles.supervision.node_protocol import NodeAccepted, NodeJoin, NodeLeave, NodeLeaving
from actors.roles.supervision.report import of_system
from actors.roles.supervision.supervisor import ROUND_S, Supervisor


class SystemSupervisor(Supervisor):
    """Has the pipelines play, and ends the system once they have ended."""

    _plan: Plan
    _nodes: NodeDirectory

    def on(self, message: object, sender: str, now: float) -> None:
        self._now = now
        super().on(message, sender, now)

    def _configured(self, message: Configure, now: float) -> None:
        assert isinstance(message.plan, Plan)
        if not list(self._children):
            self._plan = message.plan
            self._left = 0  # deliveries that a drain left
            self._dry: set[str] = set()
            self._drained_pipelines: set[str] = set()
            self._nodes = NodeDirectory(self._plan.host, self._plan.app, self._plan.version)
            for pipeline in self._plan.pipelines:
                self._children.add(Slot("pipeline", pipeline.name))
            if self._plan.clock:
                self._children.add(Slot("clock", "clock"))
            for slot in self._children:
                self._start(slot, now)
            self._context.remind(ROUND_S, Reminder("round"))
        self._context.send(self._parent, Ready("root", self._context.pid))

    def _configure(self, slot: Slot) -> Configure:
        if slot.role == "clock":
            return Configure(self._plan, "clock")
        (pipeline,) = (pipeline for pipeline in self._plan.pipelines if pipeline.name == slot.path)
        return Configure(pipeline, "pipeline")

    def _on_death(self, slot: Slot, name: str, cause: str, known: bool, now: float) -> None:
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
            case NodeJoin():
                self._join(message, sender, now)
            case NodeLeave(host=host):
                self._context.send(sender, self._have_leave(host, now))
            case Drain(seconds=seconds):
                self._drain(seconds, now)
            case Drained(left=left):
                self._drained(sender, left, now)
            case Reminder(what="deadline"):
                for slot in self._children:
                    if slot.name:
                        self._left += slot.role == "pipeline"  # one delivery at least
                        self._context.kill(slot.name)
            case _:
                raise TypeError(f"the root has no use for {message}")

    def _join(self, message: NodeJoin, sender: str, now: float) -> None:
        """A host may have handlers of the pipelines, if it runs the same app."""
        node = self._nodes.on_report(
            *(sender, message.host, message.app, message.version, message.pid, message.state, now)
        )
        open_to_it = self._deadline is None and not node.refused
        pipelines = [slot.name for slot in self._children.of("pipeline") if slot.pid and open_to_it]
        self._context.send(sender, NodeAccepted(tuple(pipelines), node.refused, node.leave))

    def _have_leave(self, host: str, now: float) -> NodeLeaving:
        if host == self._plan.host:
            self._drain(self._plan.shutdown_timeout, now)
        elif not self._nodes.drain(host):
            names = ", ".join(self._nodes.names())
            return NodeLeaving(f"no host is named {host}; there are: {names}")
        return NodeLeaving()

    def _drained(self, sender: str, left: int, now: float) -> None:
        slot = self._children.named(sender)
        if slot is None:
            return
        if self._deadline is not None:
            if slot.name not in self._drained_pipelines:
                self._left += left
                self._drained_pipelines.add(slot.name)
            self._context.kill(slot.name)
            return
        self._dry.add(slot.path)  # a burst: its queues are empty
        if self._dry >= {pipeline.name for pipeline in self._plan.pipelines}:
            self._drain(self._plan.shutdown_timeout, now)

    def _drain(self, seconds: float, now: float) -> None:
        if self._deadline is None:
            self._deadline = Deadline(now + seconds)
            self._context.remind(max(0.0, seconds - MARGIN_S), Reminder("deadline"))
        self._advance_drain()

    def _advance_drain(self) -> None:
        """The pipelines first, then the clock, then oneself."""
        assert self._deadline is not None
        seconds = self._deadline.left_for_children(self._now)
        pipelines = [slot for slot in self._children.of("pipeline") if slot.name]
        clocks = [slot for slot in self._children.of("clock") if slot.name]
        for slot in pipelines or clocks:
            self._context.send(slot.name, Drain(seconds))
        if not pipelines and not clocks:
            self._context.send(self._parent, Drained(self._left))

    def _round(self, now: float) -> None:
        super()._round(now)
        if self._deadline is not None:
            self._advance_drain()

    def _report(self) -> dict[str, Any]:
        host, pid = self._plan.host, self._context.pid
        pipelines = [json.loads(slot.report) for slot in self._children.of("pipeline")]
        root = actor_status("supervisor", "root", host, self._state, pid=pid)
        actors = [root, *self._nodes.status(self._now)]
        actors += [actor for report in pipelines for actor in report.get("actors", ())]
        actors += [slot.status(host) for slot in self._children.of("clock")]
        return of_system(self._plan, self._state, actors, pipelines)

    @property
    def _state(self) -> str:
        if self._failed:
            return "failed"
        if self._deadline is not None:
            return "draining"
        reports = [json.loads(slot.report) for slot in self._children.of("pipeline")]
        return "running" if all(report.get("ready") for report in reports) else "starting"
