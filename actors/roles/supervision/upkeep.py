"""The handlers of a pipeline: what follows when one dies, hangs, or has done enough.

The batcher knows what a handler held. It is told of each death, and asked whether the death
is to be charged to the bulk in hand or to the handler; it says when one that is to be replaced
holds nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from actors.errors import Exit
from actors.log import own_logger
from actors.logic.supervision.children import Children, Slot
from actors.plan.plan import PipelinePlan
from actors.roles.context import Context
from actors.roles.protocol import Drain, Failed, HandlerLost

log = own_logger("actors.supervisor")

#: Attempts to start the code of a handler, where the system runs until nothing is left.
BURST_STARTS = 5
#: Seconds that a handler which holds nothing any more may take to end.
END_TIMEOUT_S = 30.0


class Restart(Protocol):
    """Begins a slot anew, after a backoff where its death is charged to it."""

    def __call__(self, slot: Slot, cause: str, now: float, *, charged: bool) -> None: ...


class Upkeep:
    """The part of a pipeline that replaces handlers."""

    def __init__(
        self,
        plan: PipelinePlan,
        context: Context,
        children: Children,
        batcher: Slot,
        restart: Restart,
        kill: Callable[[Slot], None],
    ) -> None:
        self._plan = plan
        self._context = context
        self._children = children
        self._batcher = batcher
        self._restart = restart
        self._kill = kill

    def on_death(self, slot: Slot, cause: str, known: bool, now: float) -> None:
        """A handler is dead; `known` to the batcher if it was ready."""
        if known and self._batcher.ready:
            # The batcher says whether it held a bulk: that death is the bulk's matter.
            slot.ask_charge()
            self._ask_charge(slot)
        else:
            self._restart(slot, cause, now, charged=True)

    def start_failed(self, slot: Slot) -> Failed | None:
        """A burst is to end: it does not wait for a handler that never starts."""
        slot.failed_starts += 1
        if not self._plan.burst or slot.failed_starts != BURST_STARTS:
            return None
        cause = f"its start failed {slot.failed_starts} times: {slot.reason}"
        return Failed(Exit.CRASH, f"{slot.path}: {cause}")

    def on_handler_lost(self, message: HandlerLost, now: float) -> None:
        """The batcher's answer to a death, or its word that a handler hangs."""
        if message.cause == "overdue":
            if slot := self._children.named(message.handler):
                log.warning("%s: a bulk took longer than TIMEOUT: killed", slot.path)
                self._kill(slot)
            return
        for slot in self._children.of("handler"):
            if slot.awaits_charge and slot.last_name == message.handler:
                slot.on_charged()
                charged = message.cause == "idle" and not slot.has_retired
                self._restart(slot, slot.retire_reason or slot.reason, now, charged=charged)

    def retire(self, handler: str, cause: str) -> None:
        """A handler asks to be replaced."""
        if slot := self._children.named(handler):
            slot.retire_reason = slot.retire_reason or cause

    def on_retired(self, handler: str, now: float) -> None:
        """It holds nothing any more, and will get nothing: it may end."""
        slot = self._children.named(handler)
        if slot and slot.is_leaving:
            slot.on_retired(now + END_TIMEOUT_S)
            self._context.send(slot.name, Drain(END_TIMEOUT_S))

    def check(self, now: float) -> None:
        """Once a round: what may have got lost, and who does not end."""
        for slot in self._children.of("handler"):
            if slot.awaits_charge:
                self._ask_charge(slot)
            if slot.name and slot.kill_at is not None and now > slot.kill_at:
                self._kill(slot)

    def _ask_charge(self, slot: Slot) -> None:
        lost = HandlerLost(slot.last_name, slot.reason, slot.blameless)
        self._context.send(self._batcher.name, lost)
