"""Every rule of the event stream format, for the stream whole, byte by byte, and cut anywhere.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.connectors.sse.parser import (
    MAX_EVENT,
    MAX_LINE,
    MAX_LINES,
    EventStream,
    EventTooLarge,
    StreamEvent,
)


class Told(NamedTuple):
    data: str
    id: str = ""
    event: str = "message"
    retry: int | None = None


class Case(NamedTuple):
    name: str
    stream: bytes
    events: list[Told]
    last_id: str = ""
    retry: int | None = None


A, B = Told("a"), Told("b")

CASES = [
    Case("nothing", b"", []),
    Case("one event", b"data: a\n\n", [A]),
    Case("two events", b"data: a\n\ndata: b\n\n", [A, B]),
    # One leading byte order mark is dropped.
    Case("a BOM before data", b"\xef\xbb\xbfdata: a\n\n", [A]),
    Case("a BOM before event", b"\xef\xbb\xbfevent:x\ndata:a\n\n", [Told("a", event="x")]),
    Case("a BOM before a blank line", b"\xef\xbb\xbf\ndata:a\n\n", [A]),
    Case(
        "two BOMs: the second is part of the field name", b"\xef\xbb\xbf\xef\xbb\xbfdata:a\n\n", []
    ),
    Case("a BOM on a later line", b"data:a\n\xef\xbb\xbfdata:b\n\n", [A]),
    Case("half a BOM", b"\xef\xbbdata:a\n\n", []),
    # Lines end with LF, CR or CRLF, in any mixture.
    Case("CR", b"data:a\r\rdata:b\r\r", [A, B]),
    Case("CRLF", b"data:a\r\n\r\ndata:b\r\n\r\n", [A, B]),
    Case("CRLF, then LF LF", b"data:a\n\r\ndata:b\n\n", [A, B]),
    Case("CR, then CRLF", b"data:a\r\r\ndata:b\n\n", [A, B]),
    Case("LF, then CR", b"data:a\n\rdata:b\n\n", [A, B]),
    Case("CRLF, then CR", b"data:a\r\n\rdata:b\r\n\r", [A, B]),
    Case("a mixture within an event", b"data:a\rdata:b\r\ndata:c\n\r", [Told("a\nb\nc")]),
    Case("blank lines between", b"\n\n\r\n\rdata:a\n\n\n\n\ndata:b\n\n\n", [A, B]),
    # Comments and fields.
    Case("comments", b":ka\n:\n: data: x\n\ndata:a\n:ka\n\n", [A]),
    Case("unknown fields", b"foo:bar\ndata:a\nDATA:x\n data:x\ndatax\n\n", [A]),
    Case("several data lines", b"data:a\ndata:b\ndata\ndata:\n\n", [Told("a\nb\n\n")]),
    Case("data alone", b"data\n\n", [Told("")]),
    Case("data alone, twice", b"data\ndata\n\n", [Told("\n")]),
    Case("empty data", b"data:\n\n", [Told("")]),
    Case("one space is dropped", b"data:  a\n\n", [Told(" a")]),
    Case("a tab is kept", b"data:\ta\n\n", [Told("\ta")]),
    Case("a space before the colon", b"data : a\n\n", []),
    Case("colons in the value", b"data:a:b\n\n", [Told("a:b")]),
    Case("an event type", b"event: x\ndata:a\n\ndata:b\n\n", [Told("a", event="x"), B]),
    Case("event after data", b"data:a\nevent:x\n\n", [Told("a", event="x")]),
    Case("the last event type holds", b"event:x\nevent:y\ndata:a\n\n", [Told("a", event="y")]),
    Case("an empty event type", b"event:x\nevent:\ndata:a\n\n", [A]),
    Case("no data, no event", b"event:x\n\ndata:a\n\n", [A]),
    Case("JSON", b'data: {"x": 1}\n\n', [Told('{"x": 1}')]),
    # Ids.
    Case("an id", b"id: 1\ndata:a\n\n", [Told("a", "1")], "1"),
    Case("an id persists", b"id:1\ndata:a\n\ndata:b\n\n", [Told("a", "1"), Told("b", "1")], "1"),
    Case("an id with NUL", b"id:1\nid:2\0x\ndata:a\n\n", [Told("a", "1")], "1"),
    Case("an id without an event", b"id:7\n\ndata:a\n\n", [Told("a", "7")], "7"),
    Case("only an id", b"id:7\n\n", [], "7"),
    Case("an empty id resets", b"id:1\ndata:a\n\nid\ndata:b\n\n", [Told("a", "1"), B]),
    Case("an id of spaces", b"id:  \ndata:a\n\n", [Told("a", " ")], " "),
    Case("an id beyond ASCII", "id:…\ndata:a\n\n".encode(), [Told("a", "…")], "…"),
    # retry: ASCII digits only.
    Case("retry", b"retry:1000\ndata:a\n\n", [Told("a", retry=1000)], retry=1000),
    Case("retry without data", b"retry:1234\n\n", [], retry=1234),
    Case("retry with a letter", b"retry:1000x\ndata:a\n\n", [A]),
    Case("retry, empty", b"retry:\nretry\ndata:a\n\n", [A]),
    Case("retry, signed", b"retry:-1\nretry:+1\nretry:1.5\ndata:a\n\n", [A]),
    Case("retry, two spaces", b"retry:  1\ndata:a\n\n", [A]),
    Case("retry in Arabic digits", "retry:٣٠٠٠\ndata:a\n\n".encode(), [A]),
    Case("retry without end", b"retry:" + b"9" * 5000 + b"\ndata:a\n\n", [A]),
    Case("the last valid retry holds", b"retry:1\nretry:x\n\n", [], retry=1),
    # What the stream's end cuts off is dropped, its id too.
    Case("half an event", b'id:8\ndata:a\n\nid:9\ndata:{"am', [Told("a", "8")], "8"),
    Case("an event without its blank line", b"data:a\n\nid:9\ndata:b\n", [A]),
    Case("only data, no line end", b"data:a", []),
    # UTF-8 only; what is no UTF-8 becomes U+FFFD.
    Case("an invalid byte", b"data:a\xffb\n\ndata:b\n\n", [Told("a\ufffdb"), B]),
    Case("a cut sequence", b"data:\xe2\x82\n\n", [Told("\ufffd")]),
    Case("a surrogate", b"data:\xed\xa0\x80\n\n", [Told("\ufffd\ufffd\ufffd")]),
    Case("an overlong form", b"data:\xc0\xaf\n\n", [Told("\ufffd\ufffd")]),
    Case("an invalid id", b"id:\xff\ndata:a\n\n", [Told("a", "\ufffd")], "\ufffd"),
    Case("an invalid event type", b"event:\xff\ndata:a\n\n", [Told("a", event="\ufffd")]),
    Case("beyond the BMP", "data:😀é\n\n".encode(), [Told("😀é")]),
    # No other character ends a line.
    *(
        Case(f"U+{ord(char):04X} in data", f"data:a{char}b\n\n".encode(), [Told(f"a{char}b")])
        for char in "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\0"
    ),
    Case("HTML", b"<html>\n<body>\n\n<p>data: x</p>\n\n</html>\n\n", []),
]

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def told(events: list[StreamEvent]) -> list[Told]:
    return [Told(event.data, event.id, event.event, event.retry) for event in events]


def fed(*chunks: bytes) -> tuple[list[Told], str, int | None]:
    stream = EventStream()
    events = [event for chunk in chunks for event in stream.feed(chunk)]
    return told(events), stream.last_event_id, stream.retry


@each_case
def test_a_rule_holds_for_the_whole_stream(case: Case) -> None:
    assert fed(case.stream) == (case.events, case.last_id, case.retry)


@each_case
def test_a_rule_holds_byte_by_byte(case: Case) -> None:
    chunks = [case.stream[i : i + 1] for i in range(len(case.stream))]
    assert fed(*chunks) == (case.events, case.last_id, case.retry)


@each_case
def test_a_rule_holds_wherever_the_stream_is_cut(case: Case) -> None:
    for cut in range(min(len(case.stream), 200)):
        parts = case.stream[:cut], b"", case.stream[cut:]
        assert fed(*parts) == (case.events, case.last_id, case.retry), cut


@each_case
def test_a_rule_holds_for_the_generator_of_sseclient(case: Case) -> None:
    assert told(list(EventStream([case.stream]).events())) == case.events


def reference(stream: bytes) -> tuple[list[Told], str, int | None]:
    """The standard's own words, one after another."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = re.split("\r\n|\r|\n", text)[:-1]
    events, data, event, id, last_id = [], "", "", "", ""
    retry: int | None = None
    block_retry: int | None = None
    for line in lines:
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if not line:
            last_id = id
            if data:
                events.append(Told(data[:-1], id, event or "message", block_retry))
            data, event, block_retry = "", "", None
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            id = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            retry = block_retry = int(value)
    return events, last_id, retry


WORDS = [
    b"data", b"event", b"id", b"retry", b":", b": ", b" ", b"\n", b"\r", b"\r\n", b"\n\n",
    b"\r\n\r\n", b"a", b"1", b"\0", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xff", b"\xe2\x82", b"\t",
]  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(b"".join), max_size=8))
def test_any_stream_in_any_pieces_is_read_as_the_standard_says(chunks: list[bytes]) -> None:
    assert fed(*chunks) == reference(b"".join(chunks))


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_garbage_raises_nothing(chunks: list[bytes]) -> None:
    assert fed(*chunks) == reference(b"".join(chunks))


def test_an_event_tells_whether_the_id_is_its_own() -> None:
    first, second = EventStream().feed(b"id:1\ndata:a\n\ndata:b\n\n")
    assert (first.own_id, second.own_id) == (True, False)


def test_the_last_event_id_of_the_connection_before_persists() -> None:
    stream = EventStream(last_event_id="41")
    assert told(stream.feed(b"data:a\n\n")) == [Told("a", "41")]


# ── limits ─────────────────────────────────────────────────────────────────────


def chunked(stream: bytes, size: int = 65536) -> list[bytes]:
    return [stream[i : i + size] for i in range(0, len(stream), size)]


@pytest.mark.parametrize("size", [1024, 65536, 2**25])
def test_an_event_of_16_mib_is_read_in_linear_time(size: int) -> None:
    block = b"data: " + b"x" * MAX_EVENT + b"\n\n"
    chunks = chunked(block, size)
    begin = time.process_time()
    ((data, *_),), _, _ = fed(*chunks)
    assert time.process_time() - begin < 1.0
    assert len(data) == MAX_EVENT


def test_an_event_of_40_000_lines_is_read_in_linear_time() -> None:
    chunks = chunked(b"data: 0123456789\n" * 40_000 + b"\n", 1024)
    begin = time.process_time()
    ((data, *_),), _, _ = fed(*chunks)
    assert time.process_time() - begin < 1.0
    assert data.count("\n") == 39_999


def test_an_event_of_as_many_lines_as_are_allowed_is_read() -> None:
    events, _, _ = fed(b"data\n" * MAX_LINES + b"\n")
    assert len(events) == 1


def half(size: int) -> bytes:
    return b"data:" + b"x" * (size // 2) + b"\n"


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (b"data\n" * (MAX_LINES + 1), "an event of more than 100000 data lines"),
        (half(MAX_EVENT) * 2, "an event of more than 16777216 bytes"),
        (b"data:" + b"x" * (MAX_EVENT + 1) + b"\n", "an event of more than 16777216 bytes"),
        (b"x" * (MAX_LINE + 1), "a line of more than"),
        (b":" * (MAX_LINE + 1) + b"\n", "a line of more than"),
    ],
    ids=["lines", "data", "data in one line", "an endless line", "a comment"],
)
@pytest.mark.parametrize("size", [65536, 2**26])
def test_what_is_too_large_is_a_clear_error_after_what_was_whole(
    block: bytes, message: str, size: int
) -> None:
    stream = EventStream(chunked(b"id:1\ndata:a\n\n" + block, size))
    events = stream.events()
    assert told([next(events)]) == [Told("a", "1")]
    with pytest.raises(EventTooLarge, match=message):
        next(events)
    assert stream.last_event_id == "1"
