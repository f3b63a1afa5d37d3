"""State machines as tables: a state and an event give the next state, or an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


class IllegalEvent(Exception):
    """An event that its state does not provide for: a bug of the caller."""


@dataclass(frozen=True, slots=True)
class Table(Generic[S, E]):
    """All legal transitions of a state machine, in the form of h11's.

    A state without an outgoing transition is final. `diagram` draws the table for the
    documentation, in the order in which its transitions are written.

        >>> table = Table("a door", Door.SHUT, {(Door.SHUT, Push.OPEN): Door.AJAR})
        >>> table.after(Door.SHUT, Push.OPEN)
        <Door.AJAR: 2>
    """

    name: str
    first: S
    transitions: Mapping[tuple[S, E], S]

    def after(self, state: S, event: E) -> S:
        """The state that an event leads to.

        Raises:
            IllegalEvent: the table has no such pair.
        """
        try:
            return self.transitions[state, event]
        except KeyError:
            raise IllegalEvent(f"{self.name}: no {event.name} in {state.name}") from None

    def allows(self, state: S, event: E) -> bool:
        return (state, event) in self.transitions

    def reachable(self) -> set[S]:
        """The states that some sequence of events leads to from the first."""
        found, new = {self.first}, [self.first]
        while new:
            state = new.pop()
            for (source, _), target in self.transitions.items():
                if source is state and target not in found:
                    found.add(target)
                    new.append(target)
        return found

    def diagram(self) -> str:
        """The table as a Mermaid state diagram; events between the same two states share
        an arrow."""
        arrows: dict[tuple[S, S], list[str]] = {}
        for (source, event), target in self.transitions.items():
            arrows.setdefault((source, target), []).append(_words(event))
        return "\n".join(self._lines(arrows))

    def _lines(self, arrows: Mapping[tuple[S, S], list[str]]) -> Iterator[str]:
        yield "stateDiagram-v2"
        yield f"    [*] --> {self.first.name}"
        for (source, target), events in arrows.items():
            yield f"    {source.name} --> {target.name}: {', '.join(events)}"
        for state in type(self.first):
            if not any(source is state for source, _ in self.transitions):
                yield f"    {state.name} --> [*]"


class Machine(Generic[S, E]):
    """A state that only the events of its table change.

    Subclass or hold it; `on_event` is the one method that changes the state.
    """

    __slots__ = ("_state", "_table")

    def __init__(self, table: Table[S, E]) -> None:
        self._table = table
        self._state = table.first

    @property
    def state(self) -> S:
        return self._state

    def on_event(self, event: E) -> S:
        """Changes the state and returns it.

        Raises:
            IllegalEvent: the event is not provided for in the present state, which stays.
        """
        self._state = self._table.after(self._state, event)
        return self._state

    def allows(self, event: E) -> bool:
        return self._table.allows(self._state, event)

    def __repr__(self) -> str:
        return f"<{self._table.name}: {self._state.name}>"


def _words(event: Enum) -> str:
    return event.name.lower().replace("_", " ")
