"""Supervisors: create, restart and drain their children, and know how they are.

`actors.roles.supervision.system` and `actors.roles.supervision.pipeline` add what the system and a
pipeline need.
"""

from __future__ import annotations

import json
from typing import Any

from actors.errors import Exit
from actors.log import own_logger
from actors.logic.supervision.children import Children, Slot
from actors.logic.supervision.drain import Deadline
from actors.logic.supervision.inquiry import Inquiry
from actors.roles.context import Context
from actors.roles.protocol import (
    ChildExited,
    Configure,
    Failed,
    NotReady,
    Ready,
    Reminder,
    ReportStatus,
    Status,
)

log = own_logger("actors.supervisor")

#: Seconds between two rounds in which all that may have got lost is said again.
ROUND_S = 5.0
#: Seconds that a supervisor waits for its children's answers to a question.
ANSWER_TIMEOUT_S = 0.5


class Supervisor:
    """Slots, restarts, rounds and questions, whatever the children are."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._parent = ""
        self._children = Children()
        self._failed = ""
        self._deadline: Deadline | None = None  # of a drain
        self._inquiry = Inquiry()

    def on(self, message: object, sender: str, now: float) -> None:
        if not (self._parent or isinstance(message, Configure)):
            return  # it overtook the first word; what matters is said again
        match message:
            case Configure():
                self._parent = sender
                self._configured(message, now)
            case Ready() | NotReady():
                slot = self._children.named(sender)
                if slot and not (isinstance(message, NotReady) and slot.has_started):
                    self._on_child(slot, message, now)
            case ChildExited(child=child, cause=cause):
                # Thespian may tell a death twice: by then the name is gone from its slot.
                if slot := self._children.named(child):
                    self._lose(slot, cause, now)
            case ReportStatus():
                self._ask_all(message, sender)
            case Status():
                self._on_status(message, sender)
            case Reminder(what="status"):
                if message.generation == self._inquiry.number:
                    self._answer()
            case Reminder(what="restart"):
                self._start_due(now)
            case Reminder(what="round"):
                self._round(now)
                self._context.remind(ROUND_S, Reminder("round"))
            case _:
                self._on_other(message, sender, now)

    def _lose(self, slot: Slot, cause: str, now: float, *, blameless: bool = False) -> None:
        name, known = slot.name, slot.ready
        slot.on_exit(cause, blameless=blameless)
        self._on_death(slot, name, cause, known, now)

    # ── what each kind of supervisor adds ─────────────────────────────────────

    def _configured(self, message: Configure, now: float) -> None:
        raise NotImplementedError

    def _configure(self, slot: Slot) -> Configure:
        raise NotImplementedError

    def _on_child(self, slot: Slot, message: Ready | NotReady, now: float) -> None:
        if isinstance(message, Ready):
            slot.on_ready(message.pid)
        else:
            slot.on_not_ready(message.pid, message.cause)

    def _on_death(self, slot: Slot, name: str, cause: str, known: bool, now: float) -> None:
        raise NotImplementedError

    def _on_other(self, message: object, sender: str, now: float) -> None:
        raise NotImplementedError

    def _report(self) -> dict[str, Any]:
        raise NotImplementedError

    def _round(self, now: float) -> None:
        """Say again what a child has not answered yet."""
        for slot in self._children:
            if slot.reachable and not slot.ready:
                self._context.send(slot.name, self._configure(slot))

    # ── starting and restarting ───────────────────────────────────────────────

    def _start(self, slot: Slot, now: float) -> None:
        name = slot.start(now, self._context.name)
        self._context.create(name, slot.role)
        self._context.send(name, self._configure(slot))

    def _restart(self, slot: Slot, cause: str, now: float, *, charged: bool) -> None:
        """Begin a slot anew, at once or after its backoff; too many deaths are the parent's."""
        if self._failed:
            return
        if charged and slot.intensity.exceeded(now) and not slot.host:
            slot.escalate()
            most, period = slot.intensity.deaths, slot.intensity.period
            self._fail(Exit.CRASH, f"{slot.path} died more than {most} times in {period:g} s")
            return
        delay = slot.backoff.fail(now - slot.since, self._context.random) if charged else 0.0
        log.warning(
            "%s died: %s; restart %d in %.1f s",
            *(slot.path, cause or "no cause known", slot.incarnation, delay),
            extra={"child": slot.path, "cause": cause, "delay": round(delay, 1)},
        )
        slot.schedule(now + delay)
        if delay:
            self._context.remind(delay, Reminder("restart"))
        else:
            self._start_due(now)

    def _start_due(self, now: float) -> None:
        for slot in self._children:
            if slot.is_due and now >= slot.start_at:
                self._start(slot, now)

    def _fail(self, code: int, reason: str) -> None:
        self._failed = self._failed or reason
        self._context.send(self._parent, Failed(code, reason))  # the launcher logs it, once

    # ── questions ─────────────────────────────────────────────────────────────

    def _ask_all(self, question: ReportStatus, sender: str) -> None:
        """Pass the question on, and answer once all have, or patience is over."""
        if not self._inquiry.ask(sender, question.round):
            return
        number = self._inquiry.number
        # A host that is cut off must not cost the others their answer.
        names = [slot.name for slot in self._children if slot.name and not slot.host]
        self._inquiry.expect(names)
        for name in names:
            self._context.send(name, ReportStatus(number))
        self._context.remind(ANSWER_TIMEOUT_S, Reminder("status", number))
        if self._inquiry.complete:
            self._answer()

    def _on_status(self, message: Status, sender: str) -> None:
        if slot := self._children.named(sender):
            slot.report = message.report
        self._inquiry.on_answer(sender, message.round)
        if self._inquiry.complete:
            self._answer()

    def _answer(self) -> None:
        if askers := self._inquiry.end():
            report = json.dumps(self._report())
            for asker, round in askers:
                self._context.send(asker, Status(round, report))
