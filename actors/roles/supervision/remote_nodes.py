"""The joined hosts of a pipeline: what is to run there, and what became of it.

A pipeline has its handlers on other hosts created, and killed, by their host supervisors. All
else it says to them itself, as to the children that are its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actors.log import own_logger
from actors.logic.supervision.children import Children, Slot
from actors.logic.supervision.lease import Death
from actors.logic.supervision.placement import Offer, satisfies
from actors.logic.supervision.remote_node import LOST_AFTER_S, RemoteNode
from actors.plan.plan import PipelinePlan
from actors.roles.context import Context
from actors.roles.protocol import Reminder
from actors.roles.supervision.node_protocol import Assignment, NodeReport

log = own_logger("actors.supervisor")

#: Seconds between two looks at who is still heard of.
NODE_CHECK_S = 1.0


def handler_slots(plan: PipelinePlan, offers: Iterable[Offer], host: str = "") -> Iterator[Slot]:
    """The slots of a pipeline on a host that offers these; without a name, on its own."""
    for pool, routes in plan.pools.items():
        if satisfies(offers, [offer for route in routes for offer in route.requires]):
            names = ", ".join(route.name for route in routes)
            for number in range(1, max(route.concurrency for route in routes) + 1):
                path = f"{plan.name}/{pool}/{number}" + (f"@{host}" if host else "")
                yield Slot("handler", path, names, pool, host)


class RemoteNodes:
    """The part of a pipeline that has handlers on joined hosts."""

    def __init__(self, plan: PipelinePlan, context: Context, children: Children) -> None:
        self._plan = plan
        self._context = context
        self._children = children
        self._nodes: dict[str, RemoteNode] = {}
        self._to_tell: set[str] = set()  # hosts
        self._assignments = 0  # numbered over all hosts: one that comes back must not find old ones
        self._stays = 0  # likewise, for the names of handlers

    def slots(self, host: str) -> list[Slot]:
        return [slot for slot in self._children.of("handler") if slot.host == host]

    # ── what hosts say ────────────────────────────────────────────────────────

    def on_report(
        self, message: NodeReport, sender: str, now: float
    ) -> Iterator[tuple[Slot, Death]]:
        """A host that is known says how it is; what died there is told once for each death."""
        node = self._nodes.get(message.host)
        if node is None or node.supervisor != sender:
            return  # it is another's place until that one is lost
        node.heard, node.asked = now, max(node.asked, message.asked)
        node.leaving |= message.leaving
        self._to_tell.add(node.host)
        deaths = {death.handler: death for death in message.deaths}
        for slot in self.slots(node.host):
            if slot.name in message.handlers:
                slot.on_introduced()
            elif slot.name and node.is_dead(slot.name, message.number, message.handlers):
                yield slot, deaths.get(slot.name, Death(slot.name, "ended", False))

    def check(self, now: float) -> Iterator[tuple[Slot, Death]]:
        """Hosts of which nothing was heard for too long are lost, with all that lived there."""
        for node in [node for node in self._nodes.values() if node.lost(now)]:
            cause = f"host {node.host} is lost: nothing heard of it for {LOST_AFTER_S:g} s"
            log.warning("%s: %s", self._plan.name, cause)
            del self._nodes[node.host]
            for slot in self.slots(node.host):
                if slot.name:
                    yield slot, Death(slot.name, cause, innocent=True)
        if self._nodes:
            self._context.remind(NODE_CHECK_S, Reminder("nodes"))

    def welcome(self, message: NodeReport, sender: str, now: float) -> None:
        """A host offers itself: slots for what may run on it."""
        if message.host in self._nodes or message.leaving or self.slots(message.host):
            return  # what it had when it was lost is still to be handed out again
        self._stays += 1
        node = RemoteNode(message.host, sender, message.offers, now, self._stays, message.asked)
        log.info("%s: host %s joined", self._plan.name, node.host)
        if not self._nodes:
            self._context.remind(NODE_CHECK_S, Reminder("nodes"))
        self._nodes[node.host] = node
        for slot in handler_slots(self._plan, node.offers, node.host):
            slot.schedule(now)
            self._children.add(slot)

    # ── what they are told ────────────────────────────────────────────────────

    def stays(self, slot: Slot) -> bool:
        """Whether the slot's host is there, and remains."""
        node = self._nodes.get(slot.host)
        return node is not None and not node.leaving

    def retire(self, host: str) -> bool:
        """Where the host is about to leave, its handlers retire; whether there are any."""
        node = self._nodes.get(host)
        leaving = [slot for slot in self.slots(host) if slot.name and node and node.leaving]
        for slot in leaving:
            if not slot.ready:
                self.end(slot)
            elif not slot.is_leaving:
                slot.retire("its host leaves")
        return bool(leaving)

    def start(self, slot: Slot, now: float) -> None:
        """Have a new handler created in a slot, if its host is to stay."""
        if not self.stays(slot):
            slot.cancel()
            return
        slot.start(now, f"{self._context.name}.{self._nodes[slot.host].stay}", elsewhere=True)
        self._to_tell.add(slot.host)

    def end(self, slot: Slot) -> None:
        """Have the handler in a slot killed."""
        slot.kill_requested = True
        self._to_tell.add(slot.host)

    def send_assignments(self) -> None:
        """Send out assignments; slots on hosts that are gone, or leave, end with what was in
        them."""
        for slot in self._children.of("handler"):
            if slot.host and not slot.name and not slot.awaits_charge and not self.stays(slot):
                self._children.remove(slot)
        for node in [self._nodes[host] for host in self._to_tell if host in self._nodes]:
            slots = self.slots(node.host)
            wanted = {slot.name: not slot.kill_requested for slot in slots if slot.name}
            self._assignments += node.write(wanted, self._assignments + 1)
            self._context.send(
                node.supervisor, Assignment(node.number, node.asked, node.assignment)
            )
            if node.leaving and not slots:
                del self._nodes[node.host]
        self._to_tell.clear()
