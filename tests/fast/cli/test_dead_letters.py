"""A dead letter is shown, redriven and purged whatever a stranger wrote into its headers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pika
import pytest

from actors.connectors.rabbitmq.admin import _letter, _Properties
from actors.logic.messages.properties import copied, entries, join, split, table

ODD: dict[str, dict[str, Any]] = {
    "x-death a string": {"x-death": "x"},
    "x-death a number": {"x-death": 5},
    "x-death a table": {"x-death": {"a": 1}},
    "x-death empty": {"x-death": []},
    "x-death of strings": {"x-death": ["a"]},
    "x-death of lists": {"x-death": [[1]]},
    "x-death of an empty table": {"x-death": [{}]},
    "count a word": {"x-death": [{"count": "many"}]},
    "count a table": {"x-death": [{"count": {"a": 1}}]},
    "count below nothing": {"x-death": [{"count": -5}]},
    "queue and reason of other types": {"x-death": [{"queue": 5, "reason": {"a": None}}]},
    "time a word": {"x-death": [{"count": 1, "time": "x"}]},
    "time of the year 1970": {"x-death": [{"time": datetime(1970, 1, 1)}]},
    "our attempts a word": {"x-callboard-attempts": "abc"},
    "our attempts below nothing": {"x-callboard-attempts": -1},
    "our attempts of 64 bits": {"x-callboard-attempts": 2**63 - 1},
    "our texts numbers": {f"x-callboard-{n}": 5 for n in ("error", "reason", "queue", "route")},
    "our time beyond all time": {"x-callboard-time": "9999-12-31T23:59:59-12:00"},
    "our time before all time": {"x-callboard-time": "0001-01-01T00:00:00"},
    "our time a number": {"x-callboard-time": 2**62},
    "bytes": {"h": b"\xff\xfe"},
    "nothing": {"h": None},
}  # fmt: skip

#: What pika writes for none of its values.
RAW: dict[str, bytes] = {
    "a value of a type that nobody knows": join({"headers": table([(b"h", b"?")])}),
    "a table that ends early": join({"headers": b"\0\0\0\x09\x01h"}),
    "a name that is no text": join({"headers": table([(b"\xff", b"t\1")])}),
    "a table nested without end": join({"headers": b"\0\0\0\2\1hF"}),
    "a time beyond all time": join({"headers": table([(b"x-death", b"T" + b"\x7f" * 8)])}),
    "properties that end early": b"\x20\x00\xff",
    "no properties": b"",
    "an id that is no text": join({"message_id": b"\2\xff\xfe"}),
}


def encoded(headers: dict[str, Any]) -> bytes:
    return b"".join(pika.BasicProperties(headers=headers, message_id="id").encode())


CASES = {name: encoded(headers) for name, headers in ODD.items()} | RAW


@pytest.mark.parametrize("raw", CASES.values(), ids=CASES)
def test_any_letter_is_read(raw: bytes) -> None:
    letter = _letter("q", _Properties().decode(raw), b"body")
    assert (letter.body, letter.state) == (b"body", "dead")
    assert letter.id
    assert letter.attempts >= 0
    assert letter.died is None or isinstance(letter.died, float)
    assert {type(each) for each in (letter.queue, letter.reason, letter.error, letter.route)} == {
        str
    }


@pytest.mark.parametrize("raw", CASES.values(), ids=CASES)
def test_any_letter_is_given_back_without_notes_of_its_death(raw: bytes) -> None:
    fields = split(copied(raw, {}, b"id"))
    assert fields["delivery_mode"] == b"\2"
    names = [name for name, _ in entries(fields["headers"])]
    assert b"x-callboard-attempts" not in names
    assert not any(name.startswith(b"x-death") for name in names)


def test_what_a_broker_and_callboard_wrote_is_still_told() -> None:
    died = datetime(2030, 1, 31, 12)
    by_broker = {"count": 2, "reason": "expired", "queue": "short", "time": died}
    letter = _letter("q", _Properties().decode(encoded({"x-death": [by_broker]})), b"")
    assert (letter.attempts, letter.reason, letter.queue) == (2, "by the broker: expired", "short")
    assert letter.died == (died.replace(tzinfo=UTC) + timedelta()).timestamp()
