"""The joined hosts of a unit: what is to run there, and what became of it.

A unit has its handlers on other hosts created, and killed, by their host supervisors. All
else it says to them itself, as to the children that are its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actors.log import own_logger
from actors.logic.children import Children, Slot
from actors.logic.guests import LOST, Guest
from actors.logic.lease import Death
from actors.logic.placement import Offer, satisfies
from actors.plan.plan import UnitPlan
from actors.roles.context import Context
from actors.roles.joining import Present, Roster
from actors.roles.protocol import Reminder

log = own_logger("actors.supervisor")

#: Seconds between two looks at who is still heard of.
LOOK = 1.0


def handler_slots(plan: UnitPlan, offers: Iterable[Offer], host: str = "") -> Iterator[Slot]:
    """The slots of a unit on a host that offers these; without a name, on its own."""
    for pool, routes in plan.pools.items():
        if satisfies(offers, [offer for route in routes for offer in route.requires]):
            names = ", ".join(route.name for route in routes)
            for number in range(1, max(route.concurrency for route in routes) + 1):
                path = f"{plan.name}/{pool}/{number}" + (f"@{host}" if host else "")
                yield Slot("handler", path, names, pool, host)


class Guests:
    """The part of a unit that has handlers on joined hosts."""

    def __init__(self, plan: UnitPlan, context: Context, children: Children) -> None:
        self._plan = plan
        self._context = context
        self._children = children
        self._guests: dict[str, Guest] = {}
        self._to_tell: set[str] = set()  # hosts
        self._rosters = 0  # numbered over all hosts: one that comes back must not find old ones
        self._stays = 0  # likewise, for the names of handlers

    def slots(self, host: str) -> list[Slot]:
        return [slot for slot in self._children.of("handler") if slot.host == host]

    # ── what hosts say ────────────────────────────────────────────────────────

    def hear(self, message: Present, sender: str, now: float) -> Iterator[tuple[Slot, Death]]:
        """A host that is known says how it is; what died there is told once for each death."""
        guest = self._guests.get(message.host)
        if guest is None or guest.supervisor != sender:
            return  # it is another's place until that one is lost
        guest.heard, guest.asked = now, max(guest.asked, message.asked)
        guest.leaving |= message.leaving
        self._to_tell.add(guest.host)
        deaths = {death.handler: death for death in message.deaths}
        for slot in self.slots(guest.host):
            if slot.name in message.handlers:
                slot.on_introduced()
            elif slot.name and guest.is_dead(slot.name, message.number, message.handlers):
                yield slot, deaths.get(slot.name, Death(slot.name, "ended", False))

    def look(self, now: float) -> Iterator[tuple[Slot, Death]]:
        """Hosts of which nothing was heard for too long are lost, with all that lived there."""
        for guest in [guest for guest in self._guests.values() if guest.lost(now)]:
            cause = f"host {guest.host} is lost: nothing heard of it for {LOST:g} s"
            log.warning("%s: %s", self._plan.name, cause)
            del self._guests[guest.host]
            for slot in self.slots(guest.host):
                if slot.name:
                    yield slot, Death(slot.name, cause, innocent=True)
        if self._guests:
            self._context.remind(LOOK, Reminder("guests"))

    def welcome(self, message: Present, sender: str, now: float) -> None:
        """A host offers itself: slots for what may run on it."""
        if message.host in self._guests or message.leaving or self.slots(message.host):
            return  # what it had when it was lost is still to be handed out again
        self._stays += 1
        guest = Guest(message.host, sender, message.offers, now, self._stays, message.asked)
        log.info("%s: host %s joined", self._plan.name, guest.host)
        if not self._guests:
            self._context.remind(LOOK, Reminder("guests"))
        self._guests[guest.host] = guest
        for slot in handler_slots(self._plan, guest.offers, guest.host):
            slot.schedule(now)
            self._children.add(slot)

    # ── what they are told ────────────────────────────────────────────────────

    def stays(self, slot: Slot) -> bool:
        """Whether the slot's host is there, and remains."""
        guest = self._guests.get(slot.host)
        return guest is not None and not guest.leaving

    def retire(self, host: str) -> bool:
        """Where the host is about to leave, its handlers retire; whether there are any."""
        guest = self._guests.get(host)
        leaving = [slot for slot in self.slots(host) if slot.name and guest and guest.leaving]
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
        slot.start(now, f"{self._context.name}.{self._guests[slot.host].stay}", elsewhere=True)
        self._to_tell.add(slot.host)

    def end(self, slot: Slot) -> None:
        """Have the handler in a slot killed."""
        slot.kill_requested = True
        self._to_tell.add(slot.host)

    def tell(self) -> None:
        """Send out rosters; slots on hosts that are gone, or leave, end with what was in them."""
        for slot in self._children.of("handler"):
            if slot.host and not slot.name and not slot.awaits_charge and not self.stays(slot):
                self._children.remove(slot)
        for guest in [self._guests[host] for host in self._to_tell if host in self._guests]:
            slots = self.slots(guest.host)
            wanted = {slot.name: not slot.kill_requested for slot in slots if slot.name}
            self._rosters += guest.write(wanted, self._rosters + 1)
            self._context.send(guest.supervisor, Roster(guest.number, guest.asked, guest.roster))
            if guest.leaving and not slots:
                del self._guests[guest.host]
        self._to_tell.clear()
