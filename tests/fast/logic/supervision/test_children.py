"""A supervisor's slots: one living actor in each, and who falls with whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.logic.state_machine import IllegalEvent
from actors.logic.supervision.children import TABLE, Children, Event, Slot, State

PIPELINE = "pipeline#1"


def pipeline() -> Children:
    children = Children()
    for role, path in (
        ("connection", "u/connection"),
        ("batcher", "u/batcher"),
        ("handler", "u/r/1"),
        ("handler", "u/r/2"),
    ):
        children.add(Slot(role, path))
    return children


def test_each_actor_of_a_slot_has_a_name_of_its_own() -> None:
    slot = Slot("handler", "u/r/1")
    names = []
    for now in range(3):
        names.append(slot.start(float(now), PIPELINE))
        slot.on_exit("the test")
    names.append(Slot("handler", "u/r/1").start(9.0, "pipeline#2"))
    assert len(set(names)) == 4
    assert slot.restarts == 2


def test_a_new_actor_inherits_nothing_of_the_dead_one_but_that_it_was_well() -> None:
    slot = Slot("handler", "u/r/1")
    name = slot.start(0.0, PIPELINE)
    slot.on_ready(42)
    slot.report, slot.retire_reason = '{"bulks": 1}', "the test"
    slot.retire("the test")
    slot.on_retired(30.0)
    slot.on_exit("killed")
    assert (slot.name, slot.pid, slot.ready, slot.reason) == ("", 0, False, "killed")
    assert (slot.last_name, slot.has_retired) == (name, True)
    slot.ask_charge()
    slot.on_charged()
    slot.schedule(3.0)
    slot.start(5.0, PIPELINE)
    assert (slot.state, slot.reason, slot.since) == (State.STARTING, "", 5.0)
    assert not slot.is_due
    assert (slot.pid, slot.ready, slot.last_name, slot.report) == (0, False, "", "{}")
    assert (slot.retire_reason, slot.has_retired, slot.kill_at) == ("", False, None)
    assert slot.was_ready


def test_a_death_that_is_told_twice_finds_nobody() -> None:
    children = pipeline()
    slot = next(iter(children))
    name = slot.start(0.0, PIPELINE)
    assert children.named(name) is slot
    slot.on_exit("killed")
    assert children.named(name) is None
    assert children.named("") is None


def test_one_handler_of_a_route_retires_at_a_time_while_the_others_are_at_work() -> None:
    children = pipeline()
    _, _, first, second = children
    for slot in (first, second):
        slot.start(0.0, PIPELINE)
    first.on_ready(1)
    first.retire_reason = second.retire_reason = "the test"
    assert children.retire() == []  # the other is not there yet
    second.on_ready(2)
    assert children.retire() == [first]
    assert first.status("here")["state"] == "draining"
    assert children.retire() == []
    first.on_exit("exited")
    first.start(1.0, PIPELINE)
    assert children.retire() == []
    first.on_ready(3)
    assert children.retire() == [second]


def test_what_was_started_after_falls_with_it_but_handlers_one_by_one() -> None:
    children = pipeline()
    connection, batcher, first, second = children
    assert children.after(connection) == [batcher, first, second]
    assert children.after(batcher) == [first, second]
    assert children.after(first) == []
    assert children.of("handler") == [first, second]


def test_a_slot_says_how_it_is_as_status_shows_it() -> None:
    slot = Slot("handler", "u/r/1", "r")
    slot.start(0.0, PIPELINE)
    slot.on_ready(42)
    assert slot.status("here") == {
        "role": "handler",
        "name": "u/r/1",
        "pid": 42,
        "host": "here",
        "route": "r",
        "state": "running",
        "reason": "",
        "restarts": 0,
    }


#: What drives a slot, by the event of its table.
DEEDS: dict[Event, Callable[[Slot], object]] = {
    Event.CREATE: lambda slot: slot.start(1.0, PIPELINE, elsewhere=True),
    Event.START: lambda slot: slot.start(1.0, PIPELINE),
    Event.READY: lambda slot: slot.on_ready(1),
    Event.NOT_READY: lambda slot: slot.on_not_ready(1, "the test"),
    Event.PEER_LOST: lambda slot: slot.on_peer_lost("the test"),
    Event.RETIRE: lambda slot: slot.retire("the test"),
    Event.RETIRED: lambda slot: slot.on_retired(9.0),
    Event.EXITED: lambda slot: slot.on_exit("the test"),
    Event.ASK_CHARGE: lambda slot: slot.ask_charge(),
    Event.CHARGED: lambda slot: slot.on_charged(),
    Event.SCHEDULE: lambda slot: slot.schedule(2.0),
    Event.ESCALATE: lambda slot: slot.escalate(),
}


@given(st.lists(st.sampled_from([*DEEDS]), max_size=40))
def test_a_slot_holds_at_most_one_actor_and_names_it_while_it_lives(events: list[Event]) -> None:
    slot, names = Slot("handler", "u/r/1"), []
    for event in events:
        before = slot.status("here"), slot.name
        if not TABLE.allows(slot.state, event):
            with pytest.raises(IllegalEvent):
                DEEDS[event](slot)
            assert (slot.status("here"), slot.name) == before
            continue
        DEEDS[event](slot)
        if event in (Event.START, Event.CREATE):
            names.append(slot.name)
        alive = TABLE.allows(slot.state, Event.EXITED)
        assert slot.name == (names[-1] if alive else "")
        assert slot.ready <= slot.reachable <= alive
        assert (slot.status("here")["state"] == "stopped") != alive
    assert len(set(names)) == len(names) == slot.incarnation
