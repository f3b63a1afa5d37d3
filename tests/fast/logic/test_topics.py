"""The window in which those who come late find the events of a topic."""

from __future__ import annotations

from actors.logic.topics import EVENTS_MAX, WINDOW_S, EventWindow, TopicEvent


def window(*times: float) -> EventWindow:
    made = EventWindow()
    for number, at in enumerate(times):
        made.add(TopicEvent(str(number), "t", number), at)
    return made


def ids(events: list[TopicEvent]) -> list[str]:
    return [event.id for event in events]


def test_who_names_the_last_event_gets_what_came_after_it() -> None:
    assert ids(window(0, 1, 2).since("0", 3)) == ["1", "2"]
    assert ids(window(0, 1, 2).since("2", 3)) == []


def test_who_names_none_gets_nothing_and_who_names_an_unknown_one_gets_all() -> None:
    assert ids(window(0, 1).since(None, 2)) == []
    assert ids(window(0, 1).since("gone", 2)) == ["0", "1"]


def test_it_keeps_the_last_hundred_of_the_last_minute() -> None:
    many = window(*range(EVENTS_MAX + 5))
    assert ids(many.since("", EVENTS_MAX + 5))[0] == str(max(5, EVENTS_MAX + 5 - int(WINDOW_S)))
    assert ids(window(*[0.0] * (EVENTS_MAX + 1)).since("", 0))[0] == "1"
