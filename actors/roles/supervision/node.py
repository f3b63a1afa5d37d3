"""The host supervisor: at the top of a host that joined others, in the place of the root.

It is the hands of pipelines elsewhere: it creates and kills the handlers that they want here, and
says who lives. What a pipeline has not asked for again within its lease ends.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from actors.log import own_logger
from actors.logic.supervision.children import actor_status
from actors.logic.supervision.drain import MARGIN_S
from actors.logic.supervision.lease import LEASE, Lease
from actors.plan.plan import NodePlan
from actors.roles.context import Context
from actors.roles.protocol import (
    ChildExited,
    Configure,
    Drain,
    Drained,
    Leased,
    Ready,
    Reminder,
    ReportStatus,
    Status,
)
from actors.roles.supervision.node_protocol import (
    REPORT_INTERVAL_S,
    Assignment,
    NodeAccepted,
    NodeJoin,
    NodeLeave,
    NodeLeaving,
    NodeReport,
)
from actors.roles.supervision.report import of_system

log = own_logger("actors.supervisor")

#: Seconds to wait for the leader's answer to a question.
ANSWER_TIMEOUT_S = 1.5


class NodeSupervisor:
    """Joins a leader, or the next one, and has on this host what its pipelines want here."""

    _plan: NodePlan

    def __init__(self, context: Context) -> None:
        self._context = context
        self._launcher = ""
        self._leaders: tuple[str, ...] = ()
        self._leader = 0  # whose turn it is
        self._on_child = 0.0  # when a leader last took us in
        self._standing = ""  # "joined", "refused" or "alone", as it was said last
        self._refused = ""
        self._pipelines: tuple[str, ...] = ()
        self._leases: dict[str, Lease] = {}  # by pipeline
        self._deadline: float | None = None  # of a drain
        self._left = 0
        self._asked = 0  # questions that were passed on
        self._askers: dict[int, tuple[str, int]] = {}  # (name, round), by question
        self._leave_asker = ""

    def on(self, message: object, sender: str, now: float) -> None:
        if not (self._launcher or isinstance(message, Configure)):
            return
        match message:
            case Configure():
                self._configured(message, sender, now)
            case NodeAccepted():
                self._joined(message, now)
            case Assignment() if lease := self._leases.get(sender):
                lease.renew(message.number, message.handlers, message.asked)
                self._carry_out(sender, lease)
                for handler in lease.living:
                    self._context.send(handler, Leased(lease.expires))
            case Assignment():
                pass  # of a pipeline that is forgotten
            case ChildExited(child=child, cause=cause):
                self._exited(child, cause)
            case Reminder(what="beat"):
                self._beat(now)
                self._context.remind(REPORT_INTERVAL_S, Reminder("beat"))
            case Drain(seconds=seconds):
                self._leave(seconds, now)
            case Reminder(what="deadline"):
                self._kill_all()
            case _:
                self._ask(message, sender, now)
        if self._deadline is not None and not self._living:
            self._say_join("stopped")
            self._context.send(self._launcher, Drained(self._left))

    def _configured(self, message: Configure, sender: str, now: float) -> None:
        assert isinstance(message.plan, NodePlan)
        if not self._launcher:
            self._launcher, self._plan, self._leaders = sender, message.plan, message.leaders
            self._on_child = now
            self._beat(now)
            self._context.remind(REPORT_INTERVAL_S, Reminder("beat"))
        self._context.send(sender, Ready("host", self._context.pid))

    # ── the leader ────────────────────────────────────────────────────────────

    def _beat(self, now: float) -> None:
        """Say that we are here, and end what nobody asks for any more."""
        if now - self._on_child >= LEASE:
            self._try_next(now)
        self._say_join("running" if self._deadline is None else "draining")
        for pipeline, lease in list(self._leases.items()):
            lease.expire(self._context.clock())
            self._carry_out(pipeline, lease)
            if pipeline not in self._pipelines and not lease.living:
                del self._leases[pipeline]
        for pipeline in self._pipelines:
            self._say_present(pipeline)

    def _try_next(self, now: float) -> None:
        if not self._refused:
            self._stand("alone", logging.WARNING, f"nothing heard of it for {LEASE:g} s")
        self._leader = (self._leader + 1) % len(self._leaders)
        self._on_child, self._pipelines = now, ()

    def _joined(self, message: NodeAccepted, now: float) -> None:
        self._refused = message.refused
        if self._refused:  # another leader may run what this host does
            self._stand("refused", logging.WARNING, f"refuses this host: {self._refused}")
        else:
            self._on_child = now
            self._stand("joined", logging.INFO, "joined")
        if message.leave:
            self._leave(self._plan.shutdown_timeout, now)
        new = [pipeline for pipeline in message.pipelines if pipeline not in self._pipelines]
        self._pipelines = message.pipelines
        for pipeline in new:
            self._leases.setdefault(pipeline, Lease())
            self._say_present(pipeline)

    def _stand(self, standing: str, level: int, text: str) -> None:
        """Say how we stand with the leader, where that is news."""
        if standing != self._standing:
            self._standing = standing
            log.log(level, "leader %s: %s", self._leaders[self._leader], text)

    def _say_join(self, state: str) -> None:
        plan, pid = self._plan, self._context.pid
        join = NodeJoin(plan.host, plan.app, plan.version, plan.offers, pid, state)
        self._context.send(self._leaders[self._leader], join)

    # ── the pipelines ─────────────────────────────────────────────────────────────

    @property
    def _living(self) -> list[str]:
        return [name for lease in self._leases.values() for name in lease.living]

    def _say_present(self, pipeline: str) -> None:
        lease, leaving = self._leases[pipeline], self._deadline is not None
        handlers = tuple(sorted(lease.living))
        now = self._context.clock()
        present = NodeReport(
            *(self._plan.host, self._plan.offers, leaving, now, lease.done, handlers, lease.deaths)
        )
        self._context.send(pipeline, present)

    def _carry_out(self, pipeline: str, lease: Lease) -> None:
        """Have here whom the pipeline wants here."""
        for name in lease.to_end():
            self._context.kill(name)
        started = [] if self._deadline is not None else lease.to_start(self._context.clock())
        for name in started:
            log.info("%s starts, for %s", name.partition("#")[0], pipeline.partition("#")[0])
            self._context.create(name, "handler")
            lease.began(name)
        if started:
            self._say_present(pipeline)

    def _exited(self, child: str, cause: str) -> None:
        for pipeline, lease in self._leases.items():
            if child in lease.living:
                lease.died(child, cause)
                self._carry_out(pipeline, lease)
                self._say_present(pipeline)

    # ── the end ───────────────────────────────────────────────────────────────

    def _leave(self, seconds: float, now: float) -> None:
        """Have pipelines move away what they have here; whoever is left at the end is killed."""
        if self._deadline is None:
            self._deadline = now + seconds
            self._context.remind(max(0.0, seconds - 2 * MARGIN_S), Reminder("deadline"))
            self._beat(now)

    def _kill_all(self) -> None:
        living = self._living
        self._left = len(living)
        for name in living:
            self._context.kill(name)

    # ── questions ─────────────────────────────────────────────────────────────

    def _ask(self, message: object, sender: str, now: float) -> None:
        """The leader answers for all hosts; where it does not, this one for itself."""
        leader = self._leaders[self._leader]
        match message:
            case ReportStatus():
                self._asked += 1
                self._askers[self._asked] = sender, message.round
                self._context.send(leader, ReportStatus(self._asked))
                self._context.remind(ANSWER_TIMEOUT_S, Reminder("status", self._asked))
            case Status():
                self._answer(message.round, message.report)
            case Reminder(what="status", generation=question):
                self._answer(question, json.dumps(self._report()))
            case NodeLeave(host=self._plan.host):
                self._context.send(sender, NodeLeaving())
                self._leave(self._plan.shutdown_timeout, now)
            case NodeLeave():
                self._leave_asker = sender
                self._context.send(leader, message)
            case NodeLeaving():
                self._context.send(self._leave_asker, message)
            case _:
                raise TypeError(f"a host supervisor has no use for {message}")

    def _answer(self, question: int, report: str) -> None:
        if question in self._askers:
            asker, round_ = self._askers.pop(question)
            self._context.send(asker, Status(round_, report))

    def _report(self) -> dict[str, Any]:
        """This host's own part."""
        plan, state, reason = self._plan, "running", ""
        if self._standing != "joined":
            state = "waiting"
            reason = self._refused or f"leader {self._leaders[self._leader]} does not answer"
        if self._deadline is not None:
            state = "draining"
        host = actor_status(
            "host", plan.host, plan.host, state, pid=self._context.pid, reason=reason
        )
        paths = (name.partition("#")[0] for name in self._living)
        handlers = [actor_status("handler", path, plan.host, "running") for path in paths]
        return of_system(plan, state, [host, *handlers])
