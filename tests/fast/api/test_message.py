from __future__ import annotations

import json
import logging
import struct
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from pika import frame, spec
from pydantic import BaseModel, Json, TypeAdapter
from typing_extensions import TypedDict

from actors.api.message import Handout, Mark, Message, decode_json, decoder_for
from actors.connectors.rabbitmq.message import RabbitMQMessage
from actors.connectors.spool.message import SpoolMessage
from actors.connectors.sse.message import Event
from actors.errors import InvalidMessage
from actors.logic.messages.records import pack
from actors.logic.settlement.failure import Outcome
from actors.roles.handler_pools import order_key


def amqp(
    body: bytes = b'{"a": 1}',
    redelivered: bool = False,
    raw_properties: bytes | None = None,
    **properties: Any,
) -> bytes:
    deliver = spec.Basic.Deliver("ctag1", 7, redelivered, "ex", "some.key")
    header = frame.Header(1, len(body), spec.BasicProperties(**properties)).marshal()
    if raw_properties is not None:
        payload = header[7:19] + raw_properties
        header = struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce"
    content = frame.Body(1, body).marshal() if body else b""
    return bytes(frame.Method(1, deliver).marshal() + header + content)


def rabbit(raw: bytes, attempts: int = 0) -> RabbitMQMessage[Any]:
    return RabbitMQMessage(raw, Handout("words", decode_json), 0, "words", attempts)


def spooled(headers: bytes = b"", body: bytes = b"1", attempts: int = 0) -> bytes:
    return pack("id-1", "words", headers, 0, 1.0, attempts, body)


def nested(depth: int) -> bytes:
    """Properties whose headers hold an array in an array in an array …"""
    array = b""
    for _ in range(depth):
        array = b"A" + struct.pack(">I", len(array)) + array
    table = b"\x01x" + array
    return struct.pack(">HI", 0x2000, len(table)) + table


POISON = [
    pytest.param(nested(2000), id="nested 2,000 deep"),
    pytest.param(struct.pack(">HI", 0x2000, 12) + b"\x01xT" + b"\xff" * 8, id="date past 9999"),
    pytest.param(struct.pack(">HI", 0x2000, 400) + b"\x01xS", id="cut short"),
]


def test_a_rabbitmq_message_shows_all_that_came_with_it() -> None:
    message = rabbit(amqp(message_id="m1", headers={"n": 1}, content_type="application/json"))
    assert message.body == {"a": 1}
    assert message.serialized_data == b'{"a": 1}'
    assert (message.exchange, message.routing_key, message.queue) == ("ex", "some.key", "words")
    assert (message.id, message.headers, message.route) == ("m1", {"n": 1}, "words")
    assert message.properties.content_type == "application/json"
    assert (message.attempts, message.redelivered) == (0, False)


def test_a_spool_message_shows_all_that_came_with_it() -> None:
    raw = spooled(b'{"n": 1}', b'"x"', attempts=2)
    message: SpoolMessage[Any] = SpoolMessage(raw, Handout("words", decode_json), 0, "words")
    assert (message.body, message.serialized_data) == ("x", b'"x"')
    assert (message.id, message.headers) == ("id-1", {"n": 1})
    assert (message.attempts, message.redelivered) == (2, True)


def event(headers: bytes, data: bytes, wanted: Any = None) -> Event[Any]:
    return Event(
        spooled(headers, data),
        Handout("events", decoder_for(wanted and TypeAdapter(wanted), plain_text=True)),
    )


def test_an_event_shows_all_that_came_with_it() -> None:
    told = event(b'{"event": "ping", "id": "7", "retry": 1500}', b'{"a": 1}')
    assert (told.name, told.id, told.retry) == ("ping", "7", 1500)
    assert (told.body, told.data) == ({"a": 1}, '{"a": 1}')
    silent = event(b"", b"1")
    assert (silent.name, silent.id, silent.retry) == ("message", "id-1", None)


@pytest.mark.parametrize("text", ["", "ping", "{cut", "two\nlines", "señor", "NaN;", "[" * 99_999])
def test_the_body_of_an_event_that_is_not_json_is_its_text(text: str) -> None:
    told = event(b"", text.encode())
    assert (told.body, told.data) == (text, text)
    assert not told._handout.invalid
    assert event(b"", text.encode(), str).body == text


def test_an_event_of_a_typed_route_is_validated_as_usual() -> None:
    assert event(b"", b"[1, 2]", list[int]).body == [1, 2]
    assert event(b"", b"ping", int | str).body == "ping"
    for data in (b"ping", b'["a"]', b"[1"):
        told = event(b"", data, list[int])
        with pytest.raises(InvalidMessage):
            _ = told.body
        assert list(told._handout.invalid) == [0]


def nested_in(depth: int) -> bytes:
    return b'{"x": ' + b"[" * depth + b"]" * depth + b"}"


TEXT = '{"x": 1}'
READABLE = {
    "plain": TEXT.encode(),
    "bom": b"\xef\xbb\xbf" + TEXT.encode(),
    **{code: TEXT.encode(code) for code in ("utf-16", "utf-16-le", "utf-16-be")},
    **{code: TEXT.encode(code) for code in ("utf-32", "utf-32-le", "utf-32-be")},
    "utf-16 beyond ascii": '{"x": "ä😀"}'.encode("utf-16"),
    **{f"nested {depth}": nested_in(depth) for depth in (150, 199, 200, 201, 202, 500)},
    "the same key twice": b'{"x": 1, "x": 2}',
    "NaN": b'{"x": NaN}',
    "infinity": b'{"x": -Infinity}',
    "beyond a float": b'{"x": 1e999}',
    "integer of 4300 digits": b'{"x": ' + b"9" * 4300 + b"}",
    "fraction of 5000 digits": b'{"x": 0.' + b"1" * 5000 + b"}",
    "negative zero": b'{"x": -0}',
    "both halves of a character": b'{"x": "\\ud83d\\ude00"}',
    "bom in a text": '{"x": "\ufeff"}'.encode(),
    "null character": b'{"x": "\\u0000"}',
    "blanks": b' \n{"x"\t: 1}\r\n ',
}
UNREADABLE = {
    "empty": b"",
    "blank": b"  ",
    "bom alone": b"\xef\xbb\xbf",
    "two boms": b"\xef\xbb\xbf" * 2 + TEXT.encode(),
    "cut": b'{"x": 1',
    "two documents": b'{"x": 1} {"x": 2}',
    "trailing comma": b'{"x": 1,}',
    "single quotes": b"{'x': 1}",
    "comment": b'{"x": 1} // one',
    "latin-1": b'{"x": "\xe9"}',
    "control character": b'{"x": "\n"}',
    "leading zero": b'{"x": 01}',
    "integer of 5000 digits": b'{"x": ' + b"1" * 5000 + b"}",
    "nested beyond measure": nested_in(100_000),
    "half a character": b'{"x": "\\ud800"}',
    "half a character in a key": b'{"x": 1, "\\udfff": 1}',
    "half a character as bytes": b'{"x": "\xed\xa0\x80"}',
    "half a character in utf-16": '{"x": "\ud800"}'.encode("utf-16", "surrogatepass"),
}


class Holder(BaseModel):
    x: Any


class HolderDict(TypedDict):
    x: Any


@dataclass
class HolderData:
    x: Any


HOLDERS = [Holder, HolderDict, HolderData, dict[str, Any], Holder | int, Any]


def told(value: Any) -> Any:
    """What is in a holder of any type, as text: NaN is unequal to itself."""
    return repr(value["x"] if isinstance(value, dict) else value.x)


@pytest.mark.parametrize("wanted", HOLDERS)
@pytest.mark.parametrize("plain_text", [False, True])
@pytest.mark.parametrize("body", READABLE.values(), ids=READABLE)
def test_typed_and_untyped_routes_read_the_same(body: bytes, plain_text: bool, wanted: Any) -> None:
    untyped = decoder_for(None, plain_text)(body)
    assert told(untyped) == repr(json.loads(body)["x"])
    assert told(decoder_for(TypeAdapter(wanted), plain_text)(body)) == told(untyped)


@pytest.mark.parametrize("wanted", HOLDERS)
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_typed_and_untyped_routes_refuse_the_same(body: bytes, wanted: Any) -> None:
    for decode in (decode_json, decoder_for(TypeAdapter(wanted), plain_text=False)):
        with pytest.raises(InvalidMessage, match=r"^not JSON: "):
            decode(body)
    assert decoder_for(None, plain_text=True)(body) == body.decode("utf-8", "replace")


def test_a_text_of_another_encoding_is_validated_as_json_and_not_as_python() -> None:
    class Strict(BaseModel, strict=True):
        day: date
        tags: set[str]

    body = '{"day": "2026-01-01", "tags": ["a"]}'
    decode = decoder_for(TypeAdapter(Strict), plain_text=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert decode(body.encode(encoding)) == Strict(day=date(2026, 1, 1), tags={"a"})


def test_json_within_json_that_is_none_is_refused_and_not_taken_for_the_whole() -> None:
    class Inner(BaseModel):
        inner: Json[int]

    for wanted, body in ((Inner, b'{"inner": "{"}'), (Json[int], b'"{"')):
        for plain_text in (False, True):
            with pytest.raises(InvalidMessage, match="Invalid JSON"):
                decoder_for(TypeAdapter(wanted), plain_text)(body)


def test_the_body_is_decoded_once() -> None:
    """B29"""
    calls = []
    handout = Handout("words", lambda data: calls.append(data) or 1)  # type: ignore[func-returns-value]
    message: RabbitMQMessage[Any] = RabbitMQMessage(amqp(), handout)
    assert [message.body for _ in range(10)] == [1] * 10
    assert len(calls) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000, b"1" * 5000],
    ids=["empty", "cut", "no text", "nested", "huge number"],
)
def test_an_undecodable_body_raises_each_time_and_marks_its_message(body: bytes) -> None:
    message = rabbit(amqp(body))
    for _ in range(2):
        with pytest.raises(InvalidMessage, match="not JSON"):
            _ = message.body
    assert list(message._handout.invalid) == [0]
    assert message.serialized_data == body


@pytest.mark.parametrize("properties", POISON)
def test_poison_in_the_headers_hurts_only_who_reads_them(properties: bytes) -> None:
    message = rabbit(amqp(raw_properties=properties), attempts=3)
    assert message.body == {"a": 1}
    assert message.attempts == 3
    assert not message._handout.invalid
    with pytest.raises(InvalidMessage, match="properties"):
        _ = message.headers
    assert list(message._handout.invalid) == [0]


@pytest.mark.parametrize("headers", [b"{", b"7", b"[" * 100_000])
def test_headers_of_the_spool_that_are_no_object_are_invalid(headers: bytes) -> None:
    if len(headers) > 65535:
        headers = headers[:60_000]
    message: SpoolMessage[Any] = SpoolMessage(spooled(headers), Handout("w", decode_json))
    with pytest.raises(InvalidMessage, match="headers"):
        _ = message.headers


@pytest.mark.parametrize(
    ("before", "redelivered", "headers", "attempts"),
    [
        (0, False, {}, 0),
        (0, True, {}, 1),
        (2, True, {}, 2),
        (2, False, {"x-callboard-attempts": 4, "x-delivery-count": 3}, 2),
        (0, False, {"x-callboard-attempts": 2**63 - 1}, 0),
        (0, True, {"x-delivery-count": 2**63 - 1}, 1),
    ],
)
def test_attempts_are_what_the_batcher_knows_and_no_header(
    before: int, redelivered: bool, headers: dict[str, Any], attempts: int
) -> None:
    message = rabbit(amqp(redelivered=redelivered, headers=headers), before)
    assert message.attempts == attempts
    assert message.redelivered == (attempts > 0)


def test_the_last_mark_wins() -> None:
    message = rabbit(amqp())
    marks = message._handout.marks
    message.accept()
    assert marks == {0: Mark(Outcome.ACK)}
    message.reject()
    assert marks == {0: Mark(Outcome.REQUEUE)}
    message.reject(delay=5, reason="later")
    assert marks == {0: Mark(Outcome.REQUEUE, 5.0, "later")}
    message.reject(requeue=False)
    assert marks == {0: Mark(Outcome.REJECT)}
    message.dead_letter("bad")
    assert marks == {0: Mark(Outcome.DEAD_LETTER, 0.0, "bad")}
    message.snooze(1.5)
    assert marks == {0: Mark(Outcome.SNOOZE, 1.5)}


def test_a_mark_that_makes_no_sense_is_refused() -> None:
    message = rabbit(amqp())
    for delay in (-1.0, float("nan"), float("inf"), 1e12):
        with pytest.raises(ValueError, match=r"^seconds must be 0 to"):
            message.snooze(delay)
        with pytest.raises(ValueError, match=r"^delay must be 0 to"):
            message.reject(delay=delay)
    wrong: Any
    for wrong in ("1", b"1", [], True, timedelta(1)):
        with pytest.raises(TypeError, match=r"^seconds must be a number of seconds, not "):
            message.snooze(wrong)
        with pytest.raises(TypeError, match=r"^delay must be a number of seconds, not "):
            message.reject(delay=wrong)
    for wrong in ("no", 0, None):
        with pytest.raises(TypeError, match=r"^requeue must be True or False, not "):
            message.reject(wrong)
    with pytest.raises(ValueError, match="requeue"):
        message.reject(requeue=False, delay=1.0)
    assert not message._handout.marks


def test_a_mark_after_the_settlement_is_ignored_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = rabbit(amqp())
    message._handout.closed = True
    with caplog.at_level(logging.WARNING, "actors.handler"):
        message.accept()
    assert not message._handout.marks
    assert "route words" in caplog.text
    assert "ACK" in caplog.text


def test_a_typed_body_is_of_its_type_and_its_errors_do_not_show_it() -> None:
    class Word(BaseModel):
        id: int
        word: str

    decode = decoder_for(TypeAdapter(Word), plain_text=False)
    assert decode(b'{"id": 1, "word": "a"}') == Word(id=1, word="a")
    with pytest.raises(InvalidMessage) as caught:
        decode(b'{"id": "secret-input"}')
    assert "secret-input" not in str(caught.value)
    assert str(caught.value).startswith("id: Input should be a valid integer")
    for bomb in (b"[" * 100_000, b"1" * 100_000, b"\xff"):
        with pytest.raises(InvalidMessage):
            decode(bomb)


def test_order_keys() -> None:
    assert order_key(RabbitMQMessage, amqp(), "routing_key") == "some.key"
    assert order_key(RabbitMQMessage, amqp(headers={"user": "u1"}), "header:user") == "u1"
    assert order_key(RabbitMQMessage, amqp(headers={"user": 5}), "header:user") == "5"
    assert order_key(RabbitMQMessage, amqp(), "header:user") == ""
    assert order_key(SpoolMessage, spooled(b'{"user": "u1"}'), "header:user") == "u1"
    assert order_key(SpoolMessage, spooled(), "routing_key") == "words"


@pytest.mark.parametrize("properties", POISON)
def test_an_order_key_that_cannot_be_read_is_empty(properties: bytes) -> None:
    assert order_key(RabbitMQMessage, amqp(raw_properties=properties), "header:x") == ""
    assert order_key(RabbitMQMessage, b"", "routing_key") == ""
    assert order_key(SpoolMessage, b"", "header:x") == ""


def test_a_message_is_generic_for_annotations() -> None:
    assert Message[int].__origin__ is Message  # type: ignore[attr-defined]
