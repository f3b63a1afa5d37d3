"""Events of a stream are kept until they are settled, under receipts that are given once."""

from __future__ import annotations

import pytest

from actors.logic.consuming import event_buffer
from actors.logic.consuming.event_buffer import EventBuffer, Seen


def filled(*ids: str, window: int = 10) -> EventBuffer:
    buffer = EventBuffer()
    buffer.begin(1, window)
    for id in ids:
        buffer.arrive(id, id.encode())
    return buffer


def out(buffer: EventBuffer, now: float = 0.0) -> list[tuple[int, bytes, int]]:
    first, kept = buffer.hand_out(now)
    return [(position, one.raw, one.attempts) for position, one in enumerate(kept, first)]


def test_no_more_goes_out_than_the_window_allows() -> None:
    buffer = filled("a", "b", "c", window=2)
    assert out(buffer) == [(1, b"a", 0), (2, b"b", 0)]
    assert out(buffer) == []
    assert not buffer.has_room
    buffer.settle(1, 1, 1)
    assert out(buffer) == [(3, b"c", 0)]


def test_a_hand_out_is_full_after_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_buffer, "CHUNK", 4)
    buffer = filled("aaa", "bbb", "c")
    assert [raw for _, raw, _ in out(buffer)] == [b"aaa", b"bbb"]
    assert out(buffer) == [(3, b"c", 0)]


def test_a_failure_comes_back_before_what_is_new_under_a_new_position() -> None:
    buffer = filled("a", "b")
    out(buffer)
    buffer.arrive("c", b"c")
    buffer.give_back(1, 2, failed=True)
    buffer.give_back(1, 1, failed=False)
    assert out(buffer) == [(3, b"a", 0), (4, b"b", 1), (5, b"c", 0)]


def test_a_retry_waits_for_its_time_and_holds_the_checkpoint() -> None:
    buffer = filled("a", "b")
    out(buffer)
    buffer.postpone(1, 1, until=5.0, attempts=3)
    buffer.settle(1, 1, 2)  # the receipt of what was postponed is worth nothing any more
    assert buffer.checkpoint.id == ""
    assert buffer.due == 5.0
    assert out(buffer, 4.9) == []
    assert out(buffer, 5.0) == [(3, b"a", 3)]
    buffer.settle(1, 3, 3)
    assert buffer.checkpoint.id == "b"


def test_what_is_out_when_an_epoch_ends_comes_again_and_is_flagged() -> None:
    buffer = filled("a", "b", "c", window=2)
    out(buffer)
    buffer.begin(2, 10)
    assert out(buffer) == [(1, b"a", 1), (2, b"b", 1), (3, b"c", 0)]


def test_a_settlement_of_an_old_epoch_changes_nothing() -> None:
    buffer = filled("a")
    out(buffer)
    buffer.begin(2, 10)
    out(buffer)
    buffer.settle(1, 1, 1)
    assert buffer.checkpoint.id == ""
    assert buffer.unsettled == 1


def test_an_id_without_an_event_moves_the_checkpoint_in_its_turn() -> None:
    buffer = filled("a")
    buffer.pass_over("b")
    out(buffer)
    assert buffer.checkpoint.id == ""
    buffer.settle(1, 1, 1)
    assert buffer.checkpoint.id == "b"


def test_retries_take_as_much_room_as_the_window_and_no_more() -> None:
    buffer = filled(*"abcd", window=2)
    for first in (1, 3):
        out(buffer)
        assert not buffer.has_room
        for position in (first, first + 1):
            buffer.postpone(1, position, until=9.0, attempts=1)
    assert (buffer.unsettled, buffer.ready, buffer.delayed) == (0, 0, 4)
    assert not buffer.has_room


def test_an_event_that_is_never_settled_stops_the_stream_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_buffer, "LONGEST_GAP", 3)
    buffer = filled("a", "b")
    out(buffer)
    buffer.settle(1, 2, 2)
    assert buffer.has_room
    buffer.arrive("c", b"c")
    out(buffer)
    buffer.settle(1, 3, 3)
    assert not buffer.has_room
    buffer.settle(1, 1, 1)
    assert buffer.has_room


def test_an_event_of_an_earlier_connection_is_known_again() -> None:
    seen = Seen()
    assert not seen.repeats("1", "message", "a")
    seen.reconnect()
    assert seen.repeats("1", "message", "a")
    assert not seen.repeats("2", "message", "a")


def test_events_that_share_an_id_are_no_repetitions() -> None:
    seen = Seen()
    assert not seen.repeats("1", "message", "a")
    assert not seen.repeats("1", "message", "a")
    seen.reconnect()
    assert not seen.repeats("1", "message", "b")


def test_only_so_many_events_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_buffer, "SEEN", 2)
    seen = Seen()
    for id in "123":
        seen.repeats(id, "message", "a")
    seen.reconnect()
    assert seen.repeats("2", "message", "a")
    assert not seen.repeats("1", "message", "a")
