"""A unit: one connection, its batcher and its handlers, under one supervisor.

Along connection, batcher, handlers a death takes with it what was started after;
handlers among themselves are restarted one by one. The connection never ends because its
peer does: it says so, and this supervisor says when to try again.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from actors.context import Context
from actors.errors import Exit
from actors.logic.children import Slot
from actors.peer import Peer
from actors.plan import UnitPlan
from actors.protocol import (
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
from actors.supervisor import MARGIN, ROUND, Supervisor

log = logging.getLogger("actors.supervisor")

#: Attempts to start the code of a handler, where the system runs until nothing is left.
BURST_STARTS = 5
#: Seconds that a handler which holds nothing any more may take to end.
FAREWELL = 30.0


class UnitSupervisor(Supervisor):
    """Restarts along the stream; when to connect is its `Peer`'s to say."""

    _plan: UnitPlan
    _connection: Slot
    _batcher: Slot
    _peer: Peer

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._fallen: Slot | None = None  # waits until all that fell with it is dead
        self._fallen_cause = ""
        self._stopping = False  # handlers end
        self._introductions = 0

    def _configured(self, message: Configure, now: float) -> None:
        assert isinstance(message.plan, UnitPlan)
        if not list(self._children):
            self._plan = plan = message.plan
            self._connection = self._children.add(Slot("connection", f"{plan.name}/connection"))
            self._peer = Peer(plan, self._context, self._parent, self._connection)
            self._batcher = self._children.add(Slot("batcher", f"{plan.name}/batcher"))
            for pool, routes in plan.pools.items():
                for number in range(1, max(route.concurrency for route in routes) + 1):
                    names = ", ".join(route.name for route in routes)
                    self._children.add(Slot("handler", f"{plan.name}/{pool}/{number}", names, pool))
            for slot in self._children:
                self._start(slot, now)
            self._context.remind(ROUND, Reminder("round"))
        self._context.send(self._parent, Ready("unit", self._context.pid))

    def _configure(self, slot: Slot) -> Configure:
        return Configure(self._plan, slot.role, slot.pool)

    def _start(self, slot: Slot, now: float) -> None:
        super()._start(slot, now)
        if slot is self._connection:
            self._peer.connect()

    def _heard(self, slot: Slot, message: Ready | NotReady, now: float) -> None:
        news = isinstance(message, Ready) != slot.ready or not slot.pid
        super()._heard(slot, message, now)
        if isinstance(message, NotReady) and message.fault:
            self._give_up_if(self._peer.queue_lost(message))
        if isinstance(message, NotReady) and slot.role == "handler":
            self._start_failed(slot)
        if news:
            self._introduce()
            self._retire_next()

    def _start_failed(self, slot: Slot) -> None:
        """A burst is to end: it does not wait for a handler that never starts."""
        slot.attempts += 1
        if self._plan.burst and slot.attempts == BURST_STARTS:
            cause = f"its start failed {slot.attempts} times: {slot.reason}"
            self._fail(Exit.CRASH, f"{slot.path}: {cause}")

    def _introduce(self) -> None:
        """Tell connection and batcher who stands next to them: only who has spoken."""
        handlers = [slot for slot in self._children.of("handler") if slot.ready]
        present = tuple((slot.name, slot.pool) for slot in handlers)
        retiring = tuple(slot.name for slot in handlers if slot.retiring)
        connection = self._connection.name if self._connection.pid else ""
        batcher = self._batcher.name if self._batcher.ready else ""
        self._introductions += 1
        neighbours = Neighbours(connection, batcher, present, self._introductions, retiring)
        if batcher:
            self._context.send(batcher, neighbours)
        if batcher and connection:
            self._context.send(connection, neighbours)

    # ── the connection's peer ─────────────────────────────────────────────────

    def _connection_lost(self, message: ConnectionLost, now: float) -> None:
        self._connection.ready = False
        self._connection.state, self._connection.reason = "reconnecting", message.cause
        if self._deadline is None:
            self._give_up_if(self._peer.lost(message, now))

    def _give_up_if(self, failed: Failed | None) -> None:
        if failed:
            self._fail(failed.code, failed.reason)

    # ── deaths ────────────────────────────────────────────────────────────────

    def _died(self, slot: Slot, name: str, cause: str, known: bool, now: float) -> None:
        if slot.role == "handler":
            self._handler_died(slot, name, cause, known, now)
        elif self._stopping:
            self._advance_drain(now)
        elif self._fallen is None or slot in (self._connection, self._fallen):
            self._fallen, self._fallen_cause = slot, cause
            for other in self._children.after(slot):
                other.due, other.mourned = None, ""
                if other.name:
                    self._context.kill(other.name)
        self._rebuild(now)

    def _rebuild(self, now: float) -> None:
        """Once all that fell is dead, begin again from the first of it."""
        fallen = self._fallen
        if fallen is None or any(other.name for other in self._children.after(fallen)):
            return
        self._fallen = None
        if self._deadline is not None:
            self._end_drain(left=1)
            return
        self._restart(fallen, self._fallen_cause, now, charged=True)
        if fallen.due is not None or fallen.name:
            for other in self._children.after(fallen):
                other.due = fallen.due if fallen.due is not None else now
            self._start_due(now)

    def _handler_died(self, slot: Slot, name: str, cause: str, known: bool, now: float) -> None:
        if self._stopping:
            self._advance_drain(now)
        elif self._fallen:
            return
        elif known and self._batcher.ready:
            # The batcher says whether it held a bulk: that death is the bulk's matter.
            slot.mourned, slot.reason = name, cause
            self._context.send(self._batcher.name, HandlerLost(name, cause))
        else:
            self._restart(slot, cause, now, charged=True)

    def _handler_lost(self, message: HandlerLost, now: float) -> None:
        """The batcher's answer to a death, or its word that a handler hangs."""
        if message.cause == "overdue":
            if slot := self._children.named(message.handler):
                log.warning("%s: a bulk took longer than TIMEOUT: killed", slot.path)
                self._context.kill(slot.name)
            return
        for slot in self._children.of("handler"):
            if slot.mourned == message.handler:
                slot.mourned = ""
                self._succeed(slot, message.cause == "idle", now)

    def _succeed(self, slot: Slot, idle: bool, now: float) -> None:
        """Begin the successor of a handler that died, or that made room for it."""
        if slot.retiring:
            log.info("%s retired: %s; its successor starts", slot.path, slot.worn)
            slot.due = now
            self._start_due(now)
        else:
            self._restart(slot, slot.reason, now, charged=idle)

    # ── handlers that are replaced ────────────────────────────────────────────

    def _retire_next(self) -> None:
        if self._deadline is None and self._children.retire():
            self._introduce()

    def _retired(self, slot: Slot, now: float) -> None:
        """It holds nothing any more, and will get nothing: it may end."""
        if slot.retiring:
            slot.overdue = slot.overdue or now + FAREWELL
            self._context.send(slot.name, Drain(FAREWELL))

    # ── the end ───────────────────────────────────────────────────────────────

    def _on_other(self, message: object, sender: str, now: float) -> None:
        match message:
            case ConnectionLost() if sender == self._connection.name:
                self._connection_lost(message, now)
            case ConnectionLost():
                pass  # of an incarnation that is dead
            case Reminder(what="connect"):
                self._peer.connect_if_due(now)
            case HandlerLost():
                self._handler_lost(message, now)
            case Retire(handler=handler, cause=cause):
                if slot := self._children.named(handler):
                    slot.worn = slot.worn or cause
                    self._retire_next()
            case Retired(handler=handler):
                if slot := self._children.named(handler):
                    self._retired(slot, now)
            case Drain(seconds=seconds):
                self._drain(seconds, now)
            case Drained(left=left):
                self._drained(sender, left, now)
            case Reminder(what="deadline"):
                self._end_drain(left=1)
            case _:
                raise TypeError(f"a unit has no use for {message}")

    def _drained(self, sender: str, left: int, now: float) -> None:
        if sender == self._connection.name and self._deadline is None:
            self._context.send(self._parent, Drained())  # a burst: its queues are empty
        elif sender == self._connection.name:
            self._left += left
            self._stopping = True
            self._advance_drain(now)

    def _drain(self, seconds: float, now: float) -> None:
        if self._deadline is None:
            self._deadline = now + seconds
            self._context.remind(seconds, Reminder("deadline"))
            for slot in self._children:
                slot.state = "draining" if slot.name else slot.state
            if not self._connection.name:
                self._stopping = True
        self._advance_drain(now)

    def _advance_drain(self, now: float) -> None:
        """The connection has the others finish and leaves; then the handlers end."""
        assert self._deadline is not None
        if not self._stopping:
            seconds = max(MARGIN, self._deadline - now - 2 * MARGIN)
            self._context.send(self._connection.name, Drain(seconds))
            return
        handlers = [slot for slot in self._children.of("handler") if slot.name]
        for slot in handlers:
            self._context.send(slot.name, Drain(self._deadline - now))
        if not handlers:
            self._end_drain()

    def _end_drain(self, left: int = 0) -> None:
        self._stopping = True
        for slot in self._children:
            if slot.name:
                self._context.kill(slot.name)
        self._context.send(self._parent, Drained(self._left + left))

    def _round(self, now: float) -> None:
        super()._round(now)
        self._introduce()
        self._peer.look(now)
        for slot in self._children.of("handler"):
            if slot.mourned:
                self._context.send(self._batcher.name, HandlerLost(slot.mourned, slot.reason))
            if slot.name and slot.overdue is not None and now > slot.overdue:
                self._context.kill(slot.name)
        if self._deadline is not None:
            self._advance_drain(now)

    def _report(self) -> dict[str, Any]:
        host = self._context.host
        unit = Slot("supervisor", self._plan.name, pid=self._context.pid, state="running")
        connection = json.loads(self._connection.report)
        batcher = json.loads(self._batcher.report)
        return {
            "ready": all(slot.ready for slot in self._children) and self._deadline is None,
            "actors": [unit.status(host), *(slot.status(host) for slot in self._children)],
            "routes": connection.get("routes", []),
            "stale": connection.get("stale", 0) + batcher.get("stale", 0),
        }
