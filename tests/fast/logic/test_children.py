"""A supervisor's slots: one living actor in each, and who falls with whom."""

from __future__ import annotations

from actors.logic.children import Children, Slot

UNIT = "unit#1"


def unit() -> Children:
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
    names = [slot.occupy(float(now), UNIT) for now in range(3)]
    names.append(Slot("handler", "u/r/1").occupy(9.0, "unit#2"))
    assert len(set(names)) == 4
    assert slot.restarts == 2


def test_a_new_actor_inherits_nothing_of_the_dead_one_but_that_it_was_well() -> None:
    slot = Slot("handler", "u/r/1")
    slot.occupy(0.0, UNIT)
    slot.play(42)
    slot.mourned, slot.due, slot.report = slot.name, 3.0, '{"bulks": 1}'
    slot.vacate("killed")
    assert (slot.name, slot.pid, slot.ready, slot.reason) == ("", 0, False, "killed")
    slot.occupy(5.0, UNIT)
    assert (slot.state, slot.reason, slot.since) == ("starting", "", 5.0)
    assert not slot.due
    assert (slot.pid, slot.ready, slot.mourned, slot.report) == (0, False, "", "{}")
    assert slot.was_ready


def test_a_death_that_is_told_twice_finds_nobody() -> None:
    children = unit()
    slot = next(iter(children))
    name = slot.occupy(0.0, UNIT)
    assert children.named(name) is slot
    slot.vacate("killed")
    assert children.named(name) is None
    assert children.named("") is None


def test_one_handler_of_a_route_retires_at_a_time_while_the_others_are_at_work() -> None:
    children = unit()
    _, _, first, second = children
    for slot in (first, second):
        slot.occupy(0.0, UNIT)
    first.play(1)
    first.worn = second.worn = "the test"
    assert children.retire() == []  # the other is not there yet
    second.play(2)
    assert children.retire() == [first]
    assert first.status("here")["state"] == "draining"
    assert children.retire() == []
    first.vacate("exited")
    first.occupy(1.0, UNIT)
    assert children.retire() == []
    first.play(3)
    assert children.retire() == [second]


def test_what_was_started_after_falls_with_it_but_handlers_one_by_one() -> None:
    children = unit()
    connection, batcher, first, second = children
    assert children.after(connection) == [batcher, first, second]
    assert children.after(batcher) == [first, second]
    assert children.after(first) == []
    assert children.of("handler") == [first, second]


def test_a_slot_says_how_it_is_as_status_shows_it() -> None:
    slot = Slot("handler", "u/r/1", "r")
    slot.occupy(0.0, UNIT)
    slot.play(42)
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
