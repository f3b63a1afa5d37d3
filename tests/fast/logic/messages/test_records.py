import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.logic.messages.entry import MAX_DELAY, Entry
from actors.logic.messages.records import pack, unpack

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(
    NAMES,
    NAMES,
    st.binary(max_size=500),
    st.integers(0, 255),
    st.floats(0, 1e10),
    st.integers(0, 2**32 - 1),
)
def test_a_record_gives_back_what_was_packed(
    id: str, queue: str, body: bytes, priority: int, enqueued: float, attempts: int
) -> None:
    record = unpack(pack(id, queue, b'{"a": [1]}', priority, enqueued, attempts, body))
    assert (record.id, record.queue, record.body) == (id, queue, body)
    assert (record.priority, record.enqueued, record.attempts) == (priority, enqueued, attempts)
    assert record.headers == {"a": [1]}


def test_no_headers_take_no_bytes_and_read_as_none() -> None:
    assert unpack(pack("i", "q", b"", 0, 0.0, 0, b"")).headers == {}


def test_headers_are_a_copy_for_the_asker() -> None:
    record = unpack(pack("i", "q", b'{"a": 1}', 0, 0.0, 0, b""))
    record.headers["a"] = 2
    assert record.headers == {"a": 1}


def test_no_part_and_nothing_more_than_a_record_is_taken_for_one() -> None:
    data = pack("id", "queue", b"{}", 1, 2.0, 3, b"body")
    for wrong in (*(data[:end] for end in range(len(data))), data + b"x", b"\x02" + data[1:]):
        with pytest.raises(ValueError, match="record"):
            unpack(wrong)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(b"", priority=-1),
        Entry(b"", priority=256),
        Entry(b"", delay=-0.1),
        Entry(b"", delay=float("nan")),
        Entry(b"", delay=float("inf")),
        Entry(b"", delay=MAX_DELAY + 1),
        Entry(b"", id="é" * 128),
    ],
)
def test_an_entry_out_of_range_is_refused(entry: Entry) -> None:
    with pytest.raises(ValueError, match="must be"):
        entry.check()


def test_headers_that_json_cannot_say_are_refused() -> None:
    with pytest.raises(TypeError):
        Entry(b"", headers={"a": object()}).headers_as_json()
    with pytest.raises(ValueError, match="JSON"):
        Entry(b"", headers={"a": float("nan")}).headers_as_json()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"id": None}, "id is no text"),
        ({"id": "x" * 65536}, "id is no text of at most 65,535 bytes"),
        ({"queue": b"q"}, "queue is no text"),
        ({"priority": 1.5}, "priority is 1.5, no whole number from 0 to 255"),
        ({"priority": "high"}, "priority is 'high'"),
        ({"priority": 256}, "priority is 256"),
        ({"attempts": -1}, "attempts is -1"),
        ({"attempts": 2**32}, "attempts is 4294967296, no whole number from 0 to 4,294,967,295"),
        ({"attempts": None}, "attempts is None"),
        ({"enqueued": "now"}, "enqueued is 'now', no time"),
        ({"headers": "{}"}, "headers is '{}', no bytes"),
        ({"body": None}, "body is None, no bytes"),
        ({"body": "x" * 99}, "…, no bytes"),
    ],
)
def test_what_a_record_has_no_room_for_is_named(values: dict[str, Any], named: str) -> None:
    good: dict[str, Any] = {
        "id": "i", "queue": "q", "headers": b"", "priority": 0, "enqueued": 0.0, "attempts": 0,
        "body": b"",
    }  # fmt: skip
    with pytest.raises(ValueError, match=re.escape(named)):
        pack(**good | values)
