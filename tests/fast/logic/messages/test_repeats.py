"""A failure that repeats is told once, and then as a number every ten seconds."""

from __future__ import annotations

from actors.logic.messages.repeats import PERIOD, Repeats


def test_the_first_is_told_and_the_others_are_counted() -> None:
    repeats = Repeats()
    assert [repeats.is_new("it raised", f"boom {n}", 0.1 * n) for n in range(5)] == [
        True, False, False, False, False,
    ]  # fmt: skip
    assert repeats.due(PERIOD - 1) == []
    assert repeats.due(PERIOD) == ["it raised 4 more times in 10 s; the last: boom 4"]


def test_what_goes_on_is_one_line_a_period_and_what_has_ended_is_new_again() -> None:
    repeats = Repeats()
    route_queues = []
    for second in range(60):
        if second < 30:
            repeats.is_new("it raised", "boom", float(second))
        route_queues += repeats.due(float(second))
    assert route_queues == [
        "it raised 10 more times in 10 s; the last: boom",
        "it raised 10 more times in 10 s; the last: boom",
        "it raised 9 more times in 10 s; the last: boom",
    ]
    assert repeats.empty
    assert repeats.is_new("it raised", "boom", 61.0)


def test_kinds_are_counted_apart_and_one_repetition_is_told_as_such() -> None:
    repeats = Repeats()
    assert repeats.is_new("a", "x", 0.0)
    assert repeats.is_new("b", "y", 0.0)
    assert not repeats.is_new("b", "z", 1.0)
    assert repeats.due(PERIOD) == ["b once more in 10 s; the last: z"]


def test_at_the_end_all_is_told_at_once() -> None:
    repeats = Repeats()
    repeats.is_new("a", "x", 0.0)
    repeats.is_new("a", "y", 1.0)
    assert repeats.due(2.0, 0.0) == ["a once more in 2 s; the last: y"]
