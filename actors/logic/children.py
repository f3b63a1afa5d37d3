"""A supervisor's slots: who plays in each, since when, and how often it was begun anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from actors.logic.restart import Backoff, Intensity


@dataclass(slots=True)
class Slot:
    """A place for one actor. At most one lives in it, confirmed dead before the next."""

    role: str
    path: str  #: "rabbitmq/words/1"
    route: str = ""  #: of a handler; those of its pool with commas between them
    pool: str = ""
    host: str = ""  #: a joined host; empty: this one
    name: str = ""  #: of the actor in it; empty while there is none
    incarnation: int = 0
    pid: int = 0
    state: str = "stopped"
    reason: str = ""
    since: float = 0.0
    restarts: int = 0
    ready: bool = False
    was_ready: bool = False  #: once, in any incarnation
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.2))
    intensity: Intensity = field(default_factory=Intensity)
    due: float | None = None  #: when the next is to be begun
    mourned: str = ""  #: the dead handler whose bulks the batcher has not yet taken back
    attempts: int = 0  #: to start the code of the actor in it, all in vain
    worn: str = ""  #: why a handler is to be replaced
    retiring: bool = False  #: it is its turn: it gets no more, and ends once it holds nothing
    overdue: float | None = None  #: when one that was told to end is to be killed
    innocent: bool = False  #: its last death was nobody's fault: what it held is not suspected
    reachable: bool = True  #: it may be spoken to
    ended: bool = False  #: its host was told to kill it
    report: str = "{}"

    @property
    def introduced(self) -> str:
        """The name by which the batcher is to know a handler.

        Also of one that died without fault, until the batcher has been told so: where it finds
        out by itself, it suspects what the handler held.
        """
        if self.ready:
            return self.name
        return self.mourned if self.innocent else ""

    def occupy(self, now: float, by: str) -> str:
        """A new actor takes the slot; returns its name.

        It goes on from the name of the supervisor `by`, whose successor counts anew: what
        was said to the actors of a dead supervisor must not reach those of the next.
        """
        self.incarnation += 1
        self.restarts = self.incarnation - 1
        self.name = f"{self.path}#{by.partition('#')[2]}.{self.incarnation}"
        self.state, self.reason, self.since, self.due = "starting", "", now, None
        self.pid, self.ready, self.mourned, self.report = 0, False, "", "{}"
        self.worn, self.retiring, self.overdue = "", False, None
        self.attempts, self.ended = 0, False
        return self.name

    def play(self, pid: int) -> None:
        """Its actor is what it was told to be."""
        self.pid, self.ready, self.was_ready = pid, True, True
        self.state, self.reason = "running", ""

    @property
    def has_started(self) -> bool:
        """User code starts once in a process: that it could not is older news by now."""
        return self.ready and self.role in ("handler", "clock")

    def vacate(self, reason: str, *, innocent: bool = False) -> None:
        """Its actor is dead."""
        self.innocent = innocent
        self.name, self.pid, self.ready = "", 0, False
        self.state, self.reason = "stopped", reason

    def status(self, host: str) -> dict[str, Any]:
        """As `callboard status --json` shows an actor."""
        return {
            "role": self.role,
            "name": self.path,
            "pid": self.pid,
            "host": self.host or host,
            "route": self.route,
            "state": "draining" if self.retiring and self.name else self.state,
            "reason": self.reason,
            "restarts": self.restarts,
        }


class Children:
    """The slots in the order in which they start."""

    def __init__(self) -> None:
        self._slots: list[Slot] = []

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def add(self, slot: Slot) -> Slot:
        self._slots.append(slot)
        return slot

    def remove(self, slot: Slot) -> None:
        self._slots.remove(slot)

    def named(self, name: str) -> Slot | None:
        """The slot of a living actor; None for one that is gone already."""
        return next((slot for slot in self._slots if name and slot.name == name), None)

    def of(self, role: str) -> list[Slot]:
        return [slot for slot in self._slots if slot.role == role]

    def retire(self) -> list[Slot]:
        """Whose turn it is now: one of a pool at a time, while all others of it are at work."""
        turn: list[Slot] = []
        for slot in self.of("handler"):
            staff = [other for other in self.of("handler") if other.pool == slot.pool]
            if slot.worn and all(one.ready and not one.retiring for one in staff):
                slot.retiring = True
                turn.append(slot)
        return turn

    def after(self, slot: Slot) -> list[Slot]:
        """What is started after a slot, and falls with it: handlers only after the batcher."""
        if slot.role in ("connection", "batcher"):
            return self._slots[self._slots.index(slot) + 1 :]
        return []
