"""A supervisor's slots: a state machine for each place that one actor at a time takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from actors.logic.state_machine import Machine, Table
from actors.logic.supervision.restart import Backoff, Intensity


class State(Enum):
    VACANT = auto()  #: nobody is in it, and nobody is due
    CREATING = auto()  #: another host was asked for an actor, which cannot be spoken to yet
    STARTING = auto()  #: its actor has not answered
    READY = auto()
    NOT_READY = auto()  #: its actor said why it cannot work yet
    RECONNECTING = auto()  #: a connection without its peer
    RETIRING = auto()  #: a handler that gets no more, and ends once it holds nothing
    ENDING = auto()  #: it holds nothing and was asked to end
    AWAITING_CHARGE = auto()  #: dead; the batcher has yet to say whether a bulk is to blame
    BACKOFF = auto()  #: its next actor starts at `start_at`
    ESCALATED = auto()  #: it died too often: the parent decides


class Event(Enum):
    CREATE = auto()  #: on another host
    INTRODUCED = auto()  #: by its host
    START = auto()
    READY = auto()
    NOT_READY = auto()
    PEER_LOST = auto()
    RETIRE = auto()
    RETIRED = auto()
    EXITED = auto()
    ASK_CHARGE = auto()
    CHARGED = auto()
    SCHEDULE = auto()
    CANCEL = auto()
    ESCALATE = auto()


_S, _E = State, Event
_WORKING = (_S.STARTING, _S.READY, _S.NOT_READY, _S.RECONNECTING)
_LEAVING = (_S.RETIRING, _S.ENDING)
_ALIVE = (_S.CREATING, *_WORKING, *_LEAVING)
_WAITING = (_S.AWAITING_CHARGE, _S.BACKOFF)

TABLE: Table[State, Event] = Table(
    "a slot of a supervisor",
    State.VACANT,
    {
        (_S.VACANT, _E.START): _S.STARTING,
        (_S.BACKOFF, _E.START): _S.STARTING,
        (_S.BACKOFF, _E.CREATE): _S.CREATING,
        (_S.CREATING, _E.INTRODUCED): _S.STARTING,
        **{(state, _E.READY): _S.READY for state in _WORKING},
        **{(state, _E.NOT_READY): _S.NOT_READY for state in _WORKING},
        **{(state, _E.PEER_LOST): _S.RECONNECTING for state in _WORKING},
        # What a handler says of itself may come after its supervisor's decision.
        **{(state, event): state for state in _LEAVING for event in (_E.READY, _E.NOT_READY)},
        (_S.READY, _E.RETIRE): _S.RETIRING,
        (_S.RETIRING, _E.RETIRED): _S.ENDING,
        (_S.ENDING, _E.RETIRED): _S.ENDING,
        **{(state, _E.EXITED): _S.VACANT for state in _ALIVE},
        (_S.VACANT, _E.ASK_CHARGE): _S.AWAITING_CHARGE,
        (_S.AWAITING_CHARGE, _E.CHARGED): _S.VACANT,
        (_S.VACANT, _E.SCHEDULE): _S.BACKOFF,
        **{(state, _E.CANCEL): _S.VACANT for state in _WAITING},
        (_S.VACANT, _E.ESCALATE): _S.ESCALATED,
    },
)

#: The words of `callboard status`.
_WORDS = {
    State.CREATING: "starting",
    State.STARTING: "starting",
    State.READY: "running",
    State.NOT_READY: "waiting",
    State.RECONNECTING: "reconnecting",
    State.RETIRING: "draining",
    State.ENDING: "draining",
}


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
    reason: str = ""  #: why it is not running, or why its last actor died
    since: float = 0.0  #: when its actor was started
    was_ready: bool = False  #: once, in any incarnation
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.2))
    intensity: Intensity = field(default_factory=Intensity)
    start_at: float = 0.0  #: in BACKOFF: when the next actor starts
    last_name: str = ""  #: in AWAITING_CHARGE: the dead handler whose bulks are still held
    failed_starts: int = 0  #: of the user code of its actor, in a row
    retire_reason: str = ""  #: why a handler is to be replaced; empty: it is not
    has_retired: bool = False  #: its last actor died on its way out
    kill_at: float | None = None  #: in ENDING: when it has had long enough
    blameless: bool = False  #: its last death was nobody's fault: what it held is not suspected
    kill_requested: bool = False  #: its host is to kill it
    report: str = "{}"
    _machine: Machine[State, Event] = field(default_factory=lambda: Machine(TABLE), repr=False)

    @property
    def state(self) -> State:
        return self._machine.state

    @property
    def ready(self) -> bool:
        """Whether its actor works, or finishes what it has."""
        return self.state in (State.READY, *_LEAVING)

    @property
    def reachable(self) -> bool:
        """Whether its actor can be spoken to."""
        return self.state in (*_WORKING, *_LEAVING)

    @property
    def is_leaving(self) -> bool:
        return self.state in _LEAVING

    @property
    def awaits_charge(self) -> bool:
        return self.state is State.AWAITING_CHARGE

    @property
    def is_due(self) -> bool:
        """Whether its next actor is scheduled."""
        return self.state is State.BACKOFF

    @property
    def restarts(self) -> int:
        return max(0, self.incarnation - 1)

    @property
    def introduced(self) -> str:
        """The name by which the batcher knows a handler.

        Also of one that died without fault, until the batcher has heard so: where it finds
        out by itself, it suspects what the handler held.
        """
        if self.ready:
            return self.name
        return self.last_name if self.awaits_charge and self.blameless else ""

    @property
    def has_started(self) -> bool:
        """User code starts once in a process: that it could not is older news by now."""
        return self.ready and self.role in ("handler", "clock")

    # ── from one actor to the next ────────────────────────────────────────────

    def start(self, now: float, by: str, *, elsewhere: bool = False) -> str:
        """A new actor takes the slot, `elsewhere` on another host; returns its name.

        It goes on from the name of the supervisor `by`, whose successor counts anew: what
        was said to the actors of a dead supervisor must not reach those of the next.
        """
        self._machine.on_event(Event.CREATE if elsewhere else Event.START)
        self.incarnation += 1
        self.name = f"{self.path}#{by.partition('#')[2]}.{self.incarnation}"
        self.reason, self.since, self.pid, self.report = "", now, 0, "{}"
        self.retire_reason, self.has_retired, self.kill_at = "", False, None
        self.last_name, self.failed_starts, self.kill_requested = "", 0, False
        return self.name

    def on_introduced(self) -> None:
        """Its host has introduced the actor: it can be spoken to."""
        if self.state is State.CREATING:
            self._machine.on_event(Event.INTRODUCED)

    def on_ready(self, pid: int) -> None:
        self._machine.on_event(Event.READY)
        self.pid, self.reason, self.was_ready = pid, "", True

    def on_not_ready(self, pid: int, cause: str) -> None:
        self._machine.on_event(Event.NOT_READY)
        self.pid, self.reason = pid, cause

    def on_peer_lost(self, cause: str) -> None:
        self._machine.on_event(Event.PEER_LOST)
        self.reason = cause

    def retire(self, reason: str) -> None:
        """Its handler gets no more, and ends once it holds nothing."""
        self._machine.on_event(Event.RETIRE)
        self.retire_reason = reason

    def on_retired(self, kill_at: float) -> None:
        """Its handler holds nothing any more; it has until `kill_at` to end."""
        self._machine.on_event(Event.RETIRED)
        self.kill_at = self.kill_at or kill_at

    def on_exit(self, reason: str, *, blameless: bool = False) -> None:
        """Its actor is dead."""
        self.has_retired = self.is_leaving
        self._machine.on_event(Event.EXITED)
        self.last_name, self.name, self.pid = self.name, "", 0
        self.reason, self.blameless = reason, blameless

    def ask_charge(self) -> None:
        """The batcher decides whether the death is a bulk's or the slot's."""
        self._machine.on_event(Event.ASK_CHARGE)

    def on_charged(self) -> None:
        self._machine.on_event(Event.CHARGED)

    def schedule(self, at: float) -> None:
        """The next actor starts at a time."""
        self._machine.on_event(Event.SCHEDULE)
        self.start_at = at

    def cancel(self) -> None:
        """No next actor is due, and no charge is awaited."""
        if self.state in _WAITING:
            self._machine.on_event(Event.CANCEL)

    def escalate(self) -> None:
        """It died too often: no next actor starts here."""
        self._machine.on_event(Event.ESCALATE)

    def status(self, host: str, *, draining: bool = False) -> dict[str, Any]:
        """The slot as `callboard status --json` shows an actor."""
        word = _WORDS.get(self.state, "stopped")
        return actor_status(
            self.role,
            self.path,
            self.host or host,
            "draining" if draining and self.name else word,
            route=self.route,
            pid=self.pid,
            reason=self.reason,
            restarts=self.restarts,
        )


def actor_status(
    role: str,
    name: str,
    host: str,
    state: str,
    *,
    route: str = "",
    pid: int = 0,
    reason: str = "",
    restarts: int = 0,
) -> dict[str, Any]:
    """An actor as `callboard status --json` shows it."""
    return {
        "role": role,
        "name": name,
        "pid": pid,
        "host": host,
        "route": route,
        "state": state,
        "reason": reason,
        "restarts": restarts,
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
        """Retires one handler of a pool at a time, while all others of it are at work; returns
        those whose turn it is."""
        turn: list[Slot] = []
        for slot in self.of("handler"):
            pool = [other for other in self.of("handler") if other.pool == slot.pool]
            if slot.retire_reason and all(one.state is State.READY for one in pool):
                slot.retire(slot.retire_reason)
                turn.append(slot)
        return turn

    def after(self, slot: Slot) -> list[Slot]:
        """The slots that are started after one, and fall with it: handlers only after the
        batcher."""
        if slot.role in ("connection", "batcher"):
            return self._slots[self._slots.index(slot) + 1 :]
        return []
