"""Properties are edited as bytes: what nobody can read stays as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from actors.logic.messages.properties import (
    copied,
    entries,
    join,
    lasting,
    split,
    table,
)

ALL = {
    "content_type": "a", "content_encoding": "b", "delivery_mode": 1, "priority": 4,
    "correlation_id": "c", "reply_to": "d", "expiration": "5000", "message_id": "id",
    "timestamp": 12345, "type": "e", "user_id": "guest", "app_id": "f", "cluster_id": "g",
}  # fmt: skip

COUNTS = {"x-acquired-count": 3, "x-delivery-count": 2}


def encoded(**properties: Any) -> bytes:
    return b"".join(BasicProperties(**properties).encode())


def read(raw: bytes) -> Any:
    properties: Any = BasicProperties()
    properties.decode(raw)
    return properties


def test_every_property_survives_being_taken_apart() -> None:
    raw = encoded(**ALL, headers={"a": 1})
    assert list(split(raw)) == [
        "content_type", "content_encoding", "headers", "delivery_mode", "priority",
        "correlation_id", "reply_to", "expiration", "message_id", "timestamp", "type",
        "user_id", "app_id", "cluster_id",
    ]  # fmt: skip
    assert join(split(raw)) == raw


def test_a_copy_is_durable_cannot_expire_and_belongs_to_nobody() -> None:
    copy = read(copied(encoded(**ALL), {}, b"new"))
    assert (copy.delivery_mode, copy.expiration, copy.user_id) == (2, None, None)
    assert (copy.message_id, copy.type, copy.timestamp) == ("id", "e", 12345)


def test_a_copy_gets_an_id_where_it_has_none() -> None:
    assert read(copied(encoded(), {}, b"new")).message_id == "new"
    assert read(copied(encoded(message_id=""), {}, b"new")).message_id == "new"


def test_headers_of_ours_replace_older_ones() -> None:
    headers = {"x-callboard-attempts": 1, "mine": [1, {"deep": None}]}
    copy = read(copied(encoded(headers=headers), {"x-callboard-attempts": 2, "new": "ü"}, b""))
    assert copy.headers == {"mine": [1, {"deep": None}], "x-callboard-attempts": 2, "new": "ü"}


@pytest.mark.parametrize(
    "name",
    [
        "CC", "BCC", "x-death", "x-first-death-queue", "x-first-death-reason",
        "x-first-death-exchange", "x-last-death-queue", "x-last-death-reason",
        "x-last-death-exchange", "x-delivery-count", "x-acquired-count", "x-callboard-attempts",
        "x-callboard-anything",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", ["q", 3, ["q"], [{"queue": "q", "reason": "expired"}], None])
def test_a_copy_carries_no_header_that_brokers_or_callboard_act_on(name: str, value: Any) -> None:
    copy = read(copied(encoded(headers={name: value, "mine": 1}), {}, b""))
    assert copy.headers == {"mine": 1}


@pytest.mark.parametrize("name", ["x-deaths", "cc", "x-first-deathly", "x-delivery-counts"])
def test_a_copy_keeps_headers_whose_names_are_merely_alike(name: str) -> None:
    assert read(copied(encoded(headers={name: 1}), {}, b"")).headers == {name: 1}


@pytest.mark.parametrize("counts", [{"x-delivery-count": 1}, {"x-acquired-count": 2}, COUNTS])
@pytest.mark.parametrize("headers", [None, {}, {"z": 1, "a": "b", "m": [1, {"n": None}]}])
def test_properties_are_the_same_however_often_a_message_was_delivered(
    headers: dict[str, Any] | None, counts: dict[str, int]
) -> None:
    again = dict(sorted({**(headers or {}), **counts}.items()))
    first, later = encoded(headers=headers, type="t"), encoded(headers=again, type="t")
    assert lasting(first) == lasting(later)


def test_every_kind_of_value_is_stepped_over() -> None:
    kinds = {
        b"t": 1, b"b": 1, b"B": 1, b"U": 2, b"u": 2, b"s": 2, b"I": 4, b"i": 4, b"f": 4,
        b"L": 8, b"l": 8, b"d": 8, b"T": 8, b"D": 5, b"V": 0,
    }  # fmt: skip
    pairs = [(kind, kind + bytes(size)) for kind, size in kinds.items()]
    pairs += [(kind, kind + b"\0\0\0\3abc") for kind in (b"S", b"x", b"A", b"F")]
    assert entries(table(pairs)) == pairs


def test_what_cannot_be_parsed_travels_as_hex() -> None:
    raw = join({"headers": table([(b"odd", b"?")])})
    headers = read(copied(raw, {"why": "x"}, b"new")).headers
    assert headers == {"x-callboard-properties": raw.hex(), "why": "x"}


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\x80\x00\x05ab", b"\x20\x00\0\0\0\x09", b"\0\0x"])
def test_cut_properties_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="properties"):
        split(raw)


@given(st.binary(max_size=60))
def test_no_bytes_can_break_a_copy(raw: bytes) -> None:
    assert split(copied(raw, {"why": "x"}, b"new"))["delivery_mode"] == b"\2"


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20)
    | st.just(datetime(2024, 1, 1, tzinfo=UTC)),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(min_size=1, max_size=20), VALUES, max_size=5))
def test_any_table_survives_being_taken_apart(headers: dict[str, Any]) -> None:
    raw = split(encoded(headers=headers)).get("headers", bytes(4))
    assert table(entries(raw)) == raw


HEADERS: dict[str, str | int] = {"small": "s", "large": "l" * 3000, "larger": "m" * 4000, "n": 7}
NOTES: dict[str, str | int] = {
    "x-callboard-attempts": 2**63,
    "x-callboard-reason": "é" * 2000,
    "x-callboard-queue": "q",
}


@pytest.mark.parametrize("room", [600, 1000, 3000, 4064, 8000, 12_000, 100_000])
def test_what_does_not_fit_into_a_frame_is_left_out_and_named(room: int) -> None:
    raw = encoded(**ALL, headers=HEADERS)
    made = copied(raw, NOTES, b"new", room)
    assert len(made) <= room
    copy = read(made)
    assert copy.message_id == "id"
    assert copy.headers["x-callboard-attempts"] == 2**63 - 1
    assert copy.headers["x-callboard-queue"] == "q"
    missing = HEADERS.keys() - copy.headers.keys()
    assert bool(missing) == ("x-callboard-left-out" in copy.headers)
    for name in missing:
        assert (
            f"{name} ({len(str(HEADERS[name])) + 5} bytes)" in copy.headers["x-callboard-left-out"]
        )
    assert missing <= {"large", "larger"}  # the largest gave way
    assert room < 12_000 or not missing


@given(st.binary(max_size=400), st.integers(400, 5000), st.booleans())
def test_any_bytes_make_a_copy_that_fits(raw: bytes, room: int, bare: bool) -> None:
    made = copied(raw, {"x-callboard-reason": "x" * 2000}, b"i" * 255, room, bare=bare)
    assert len(made) <= room
    assert split(made)["delivery_mode"] == b"\2"


def test_a_bare_copy_has_its_id_and_the_bytes_of_the_properties() -> None:
    raw = encoded(**ALL, headers=HEADERS)
    copy = read(copied(raw, {"why": "x"}, b"id", bare=True))
    assert (copy.message_id, copy.type) == ("id", None)
    assert raw.hex().startswith(copy.headers["x-callboard-properties"])
    assert copy.headers["why"] == "x"
