"""A pipeline: one connection, its batcher and its handlers, under one supervisor.

Along connection, batcher, handlers a death takes with it what was started after;
handlers among themselves are restarted one by one. The connection never ends because its
peer does: it says so, and this supervisor says when to try again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from actors.log import own_logger
from actors.logic.state_machine import Machine
from actors.logic.supervision.children import Slot
from actors.logic.supervision.drain import PIPELINE_TABLE, Deadline, PipelineEvent, PipelinePhase
from actors.logic.supervision.placement import spelled
from actors.plan.plan import PipelinePlan
from actors.roles.context import Context
from actors.roles.protocol import (
    Configure,
    ConnectionLost,
    Drain,
    Drained,
    Failed,
    HandlerLost,
    Neighbours,
    NotReady,
    Ready,
    Reminder,
    Retire,
    Retired,
)
from actors.roles.supervision.node_protocol import NodeReport
from actors.roles.supervision.reconnect import ReconnectPolicy
from actors.roles.supervision.remote_nodes import RemoteNodes, handler_slots
from actors.roles.supervision.report import of_pipeline
from actors.roles.supervision.supervisor import ROUND_S, Supervisor
from actors.roles.supervision.upkeep import Upkeep

log = own_logger("actors.supervisor")


class PipelineSupervisor(Supervisor):
    """Restarts along the stream; when to connect is its `ReconnectPolicy`'s to say."""

    _plan: PipelinePlan
    _connection: Slot
    _batcher: Slot
    _reconnect: ReconnectPolicy
    _nodes: RemoteNodes
    _upkeep: Upkeep

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._fallen: Slot | None = None  # waits until all that fell with it is dead
        self._fallen_cause = ""
        self._drain = Machine(PIPELINE_TABLE)
        self._left: int | None = None  # by a drain, once the connection has counted
        self._introductions = 0

    def on(self, message: object, sender: str, now: float) -> None:
        self._now = now
        super().on(message, sender, now)
        if self._parent:
            self._nodes.send_assignments()

    def _configured(self, message: Configure, now: float) -> None:
        assert isinstance(message.plan, PipelinePlan)
        if not list(self._children):
            self._plan = plan = message.plan
            self._connection = self._children.add(Slot("connection", f"{plan.name}/connection"))
            self._reconnect = ReconnectPolicy(plan, self._context, self._parent, self._connection)
            self._batcher = self._children.add(Slot("batcher", f"{plan.name}/batcher"))
            self._nodes = RemoteNodes(plan, self._context, self._children)
            self._upkeep = Upkeep(
                plan, self._context, self._children, self._batcher, self._restart, self._kill
            )
            for slot in handler_slots(plan, plan.offers):
                self._children.add(slot)
            for slot in self._children:
                self._start(slot, now)
            self._context.remind(ROUND_S, Reminder("round"))
        self._context.send(self._parent, Ready("pipeline", self._context.pid))

    def _configure(self, slot: Slot) -> Configure:
        # What the connection's peer is to be told is not for other hosts.
        plan = replace(self._plan, settings="") if slot.host else self._plan
        return Configure(plan, slot.role, slot.pool, node=bool(slot.host))

    def _start(self, slot: Slot, now: float) -> None:
        if slot.host:
            self._nodes.start(slot, now)
            return
        super()._start(slot, now)
        if slot is self._connection:
            self._reconnect.connect()

    def _on_child(self, slot: Slot, message: Ready | NotReady, now: float) -> None:
        news = isinstance(message, Ready) != slot.ready or not slot.pid
        super()._on_child(slot, message, now)
        if isinstance(message, NotReady) and message.fault:
            self._give_up_if(self._reconnect.on_queue_lost(message))
        if isinstance(message, NotReady) and slot.role == "handler":
            self._give_up_if(self._upkeep.start_failed(slot))
        if news:
            self._introduce()
            self._retire_next()

    def _introduce(self) -> None:
        """Tell connection and batcher who stands next to them: only who has spoken."""
        waiting = tuple(self._waiting())
        introduced = [slot for slot in self._children.of("handler") if slot.introduced]
        present = tuple((slot.introduced, slot.pool) for slot in introduced)
        retiring = tuple(slot.name for slot in introduced if slot.is_leaving)
        connection = self._connection.name if self._connection.pid else ""
        batcher = self._batcher.name if self._batcher.ready else ""
        self._introductions += 1
        neighbours = Neighbours(
            connection, batcher, present, self._introductions, retiring, waiting
        )
        if batcher:
            self._context.send(batcher, neighbours)
        if batcher and connection:
            self._context.send(connection, neighbours)

    # ── the connection's peer ─────────────────────────────────────────────────

    def _connection_lost(self, message: ConnectionLost, now: float) -> None:
        self._connection.on_peer_lost(message.cause)
        if self._deadline is None:
            self._give_up_if(self._reconnect.on_lost(message, now))

    def _give_up_if(self, failed: Failed | None) -> None:
        if failed:
            self._fail(failed.code, failed.reason)

    # ── deaths ────────────────────────────────────────────────────────────────

    def _on_death(self, slot: Slot, name: str, cause: str, known: bool, now: float) -> None:
        if self._drain.state in (PipelinePhase.HANDLERS_END, PipelinePhase.CLOSED):
            self._advance_drain(now)
        elif slot.role == "handler":
            if not self._fallen:
                self._upkeep.on_death(slot, cause, known, now)
        elif self._fallen is None or slot in (self._connection, self._fallen):
            self._fallen, self._fallen_cause = slot, cause
            for other in self._children.after(slot):
                other.cancel()
                self._kill(other)
        self._rebuild(now)

    def _kill(self, slot: Slot) -> None:
        if slot.host:
            self._nodes.end(slot)
        elif slot.name:
            self._context.kill(slot.name)

    def _rebuild(self, now: float) -> None:
        """Once all that fell is dead, begin again from the first of it."""
        fallen = self._fallen
        if fallen is None or any(other.name for other in self._children.after(fallen)):
            return
        self._fallen = None
        if self._deadline is not None:
            self._end_drain(PipelineEvent.FELL)
            return
        self._restart(fallen, self._fallen_cause, now, charged=True)
        if fallen.is_due or fallen.name:
            for other in self._children.after(fallen):
                other.schedule(fallen.start_at if fallen.is_due else now)
            self._start_due(now)

    def _restart(self, slot: Slot, cause: str, now: float, *, charged: bool) -> None:
        if slot.host and not self._nodes.stays(slot):
            return  # the slot goes with its host
        if slot.has_retired:
            log.info("%s retired: %s; its successor starts", slot.path, slot.retire_reason)
            slot.schedule(now)
            self._start_due(now)
        else:
            super()._restart(slot, cause, now, charged=charged and not slot.blameless)

    def _retire_next(self) -> None:
        if self._deadline is None and self._children.retire():
            self._introduce()

    # ── joined hosts ──────────────────────────────────────────────────────────

    def _present(self, message: NodeReport, sender: str, now: float) -> None:
        """A host says who lives there, and may have room for more."""
        for slot, death in list(self._nodes.on_report(message, sender, now)):
            self._lose(slot, death.cause, now, blameless=death.innocent)
        if self._plan.spread and self._fallen is None and self._deadline is None:
            self._nodes.welcome(message, sender, now)
            self._start_due(now)
        if self._nodes.retire(message.host):
            self._introduce()
        for slot in self._nodes.slots(message.host):
            if slot.name in message.handlers and not slot.pid:
                self._context.send(slot.name, self._configure(slot))

    def _lose_hosts(self, now: float) -> None:
        for slot, death in list(self._nodes.check(now)):
            self._lose(slot, death.cause, now, blameless=death.innocent)

    def _waiting(self) -> dict[str, str]:
        """Why routes have no place, by their names."""
        placed = {slot.pool for slot in self._children.of("handler")}
        waiting = [r for r in self._plan.routes if (r.pool or r.name) not in placed]
        return {r.name: f"no host offers {spelled(r.requires)}" for r in waiting}

    # ── the end ───────────────────────────────────────────────────────────────

    def _on_other(self, message: object, sender: str, now: float) -> None:
        match message:
            case ConnectionLost() if sender == self._connection.name:
                self._connection_lost(message, now)
            case ConnectionLost():
                pass  # of an incarnation that is dead
            case Reminder(what="connect"):
                self._reconnect.connect_if_due(now)
            case HandlerLost():
                self._upkeep.on_handler_lost(message, now)
            case Retire(handler=handler, cause=cause):
                self._upkeep.retire(handler, cause)
                self._retire_next()
            case Retired(handler=handler):
                self._upkeep.on_retired(handler, now)
            case NodeReport():
                self._present(message, sender, now)
            case Reminder(what="nodes"):
                self._lose_hosts(now)
            case Drain(seconds=seconds):
                self._on_drain(seconds, now)
            case Drained(left=left):
                self._on_drained(sender, left, now)
            case Reminder(what="deadline"):
                self._end_drain(PipelineEvent.DEADLINE)
            case _:
                raise TypeError(f"a pipeline has no use for {message}")

    def _on_drained(self, sender: str, left: int, now: float) -> None:
        if sender != self._connection.name:
            return
        if self._deadline is None:
            self._context.send(self._parent, Drained())  # a burst: its queues are empty
            return
        self._left = left  # it answers each `Drain` that comes late
        self._connection_drained()
        self._advance_drain(now)

    def _on_drain(self, seconds: float, now: float) -> None:
        if self._deadline is None:
            self._deadline = Deadline(now + seconds)
            self._context.remind(seconds, Reminder("deadline"))
            self._drain.on_event(PipelineEvent.DRAIN)
            if not self._connection.name:
                self._left = 0
                self._connection_drained()
        self._advance_drain(now)

    def _connection_drained(self) -> None:
        if self._drain.allows(PipelineEvent.CONNECTION_DRAINED):
            self._drain.on_event(PipelineEvent.CONNECTION_DRAINED)

    def _advance_drain(self, now: float) -> None:
        """The connection has the others finish and leaves; then the handlers end."""
        assert self._deadline is not None
        match self._drain.state:
            case PipelinePhase.CONNECTION_DRAINS:
                seconds = self._deadline.left_for_children(now)
                self._context.send(self._connection.name, Drain(seconds))
            case PipelinePhase.HANDLERS_END:
                self._end_handlers(self._deadline.left(now))
            case PipelinePhase.CLOSED:
                self._say_drained()

    def _end_handlers(self, seconds: float) -> None:
        handlers = [slot for slot in self._children.of("handler") if slot.name]
        for slot in handlers:
            if slot.reachable:
                self._context.send(slot.name, Drain(seconds))
            else:
                self._kill(slot)
        if not handlers:
            self._end_drain(PipelineEvent.HANDLERS_ENDED)

    def _end_drain(self, event: PipelineEvent) -> None:
        if self._drain.allows(event):
            self._drain.on_event(event)
        self._say_drained()

    def _say_drained(self) -> None:
        """The connection has counted what it left; without its word it is one at least."""
        for slot in self._children:
            self._kill(slot)
        self._context.send(self._parent, Drained(1 if self._left is None else self._left))

    def _round(self, now: float) -> None:
        super()._round(now)
        self._introduce()
        self._reconnect.check(now)
        self._upkeep.check(now)
        if self._deadline is not None:
            self._advance_drain(now)

    def _report(self) -> dict[str, Any]:
        draining = self._deadline is not None
        report = of_pipeline(
            self._plan, self._context.pid, self._children, self._waiting(), draining=draining
        )
        wait = self._reconnect.wait(self._now)
        for actor in report["actors"]:
            if actor["role"] == "connection" and wait is not None:
                actor["reason"] += f", tried again in {wait:.0f} s"
        return report
