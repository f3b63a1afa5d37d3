"""Tables of states: illegal pairs raise, every state can be reached, the page is up to date."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.logic.state_machine import IllegalEvent, Machine, Table
from tests.support.diagrams import PAGE, page, tables


class Listener(Enum):
    SHUT = auto()
    OPEN = auto()
    GONE = auto()


class Act(Enum):
    PUSH = auto()
    PULL = auto()
    TAKE_AWAY = auto()


DOOR = Table(
    "a door",
    Listener.SHUT,
    {
        (Listener.SHUT, Act.PUSH): Listener.OPEN,
        (Listener.OPEN, Act.PULL): Listener.SHUT,
        (Listener.SHUT, Act.TAKE_AWAY): Listener.GONE,
        (Listener.OPEN, Act.TAKE_AWAY): Listener.GONE,
    },
)

TABLES = {"tests:DOOR": DOOR, **tables()}
every_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())


def states_of(table: Table[Any, Any]) -> set[Any]:
    kind: type[Enum] = type(table.first)
    return set(kind)


def events_of(table: Table[Any, Any]) -> list[Any]:
    kind: type[Enum] = type(next(iter(table.transitions))[1])
    return list(kind)


@every_table
def test_all_states_are_reachable_and_all_events_used(table: Table[Any, Any]) -> None:
    assert table.reachable() == states_of(table)
    assert {event for _, event in table.transitions} == set(events_of(table))


@every_table
def test_a_pair_is_a_transition_or_raises_and_changes_nothing(table: Table[Any, Any]) -> None:
    for state in states_of(table):
        for event in events_of(table):
            if table.allows(state, event):
                assert table.after(state, event) is table.transitions[state, event]
            else:
                with pytest.raises(IllegalEvent, match=f"no {event.name} in {state.name}"):
                    table.after(state, event)


@every_table
def test_a_machine_follows_its_table_whatever_happens(table: Table[Any, Any]) -> None:
    @given(st.lists(st.sampled_from(events_of(table)), max_size=30))
    def walk(events: list[Any]) -> None:
        machine = Machine(table)
        for event in events:
            before = machine.state
            if machine.allows(event):
                assert machine.on_event(event) is table.transitions[before, event]
            else:
                with pytest.raises(IllegalEvent):
                    machine.on_event(event)
                assert machine.state is before

    walk()


def test_a_diagram_shows_start_arrows_and_ends() -> None:
    assert DOOR.diagram().splitlines() == [
        "stateDiagram-v2",
        "    [*] --> SHUT",
        "    SHUT --> OPEN: push",
        "    OPEN --> SHUT: pull",
        "    SHUT --> GONE: take away",
        "    OPEN --> GONE: take away",
        "    GONE --> [*]",
    ]


def test_the_page_of_state_machines_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.support.diagrams"
