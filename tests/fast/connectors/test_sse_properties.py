"""The event stream parser beside a plain reading of the standard: any bytes, cut anywhere.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from actors.connectors.sse import parser as sse_parser
from actors.connectors.sse.parser import EventStream, EventTooLarge, StreamEvent

Told = tuple[str, str, str, int | None, bool]  #: data, type, id, retry and whether the id was new


@dataclass
class Reference:
    """What the standard makes of a whole stream, step by step as it is written there."""

    stream: bytes
    last_event_id: str = ""
    events: list[Told] = field(default_factory=list)
    retry: int | None = None
    longest_line: int = 0  #: bytes
    largest_event: int = 0  #: bytes of data
    most_lines: int = 0  #: of data in one event

    def __post_init__(self) -> None:
        text = self.stream.decode("utf-8", "replace").removeprefix("\ufeff")
        *lines, _ = re.split("\r\n|\n|\r", text)  # the last has not ended
        self._forget()
        self._id = self.last_event_id
        for line in lines:
            if line == "":
                self._dispatch()
            elif not line.startswith(":"):
                name, _, value = line.partition(":")
                self._process(name, value.removeprefix(" "))
        raw = re.split(b"\r\n|\n|\r", self.stream)
        self.longest_line = max(len(line) for line in raw)

    def _forget(self) -> None:
        self._data, self._type = "", ""
        self._retry: int | None = None
        self._own_id = False

    def _process(self, name: str, value: str) -> None:
        if name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
            self.most_lines = max(self.most_lines, self._data.count("\n"))
            self.largest_event = max(self.largest_event, len(self._data.encode()) - 1)
        elif name == "id" and "\0" not in value:
            self._id, self._own_id = value, True
        elif name == "retry" and re.fullmatch("[0-9]{1,18}", value):  # longer ones are no time
            self.retry = self._retry = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        if self._data:
            data, kind = self._data.removesuffix("\n"), self._type or "message"
            self.events.append((data, kind, self._id, self._retry, self._own_id))
        self._forget()


def told(events: list[StreamEvent]) -> list[Told]:
    return [(e.data, e.event, e.id, e.retry, e.own_id) for e in events]


FRAGMENTS = [
    b"data", b"event", b"id", b"retry", b":", b": ", b" ", b"\n", b"\r", b"\r\n", b"\n\n",
    b"\r\r", b"\r\n\r\n", b"data: x\n\n", b"id: 7\n", b"retry: 30\n", b"x", b"1", b"\0", b"\xff",
    b"\xef\xbb\xbf", b"\xe2\x82", b"\xac", b"\xed\xa0\x80", "é😀\u2028\x85".encode(), b"9" * 19,
]  # fmt: skip
STREAMS = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 200), max_size=12)


def chunks(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream in pieces, some of them empty."""
    places = sorted(min(cut, len(stream)) for cut in [0, *cuts, len(stream)])
    return [stream[start:end] for start, end in pairwise(places)]


@given(STREAMS, CUTS)
def test_any_bytes_cut_anywhere_mean_what_the_standard_says_after_each_piece(
    stream: bytes, cuts: list[int]
) -> None:
    parser, events, read = EventStream(), list[StreamEvent](), b""
    for chunk in chunks(stream, cuts):
        events += parser.feed(chunk)
        read += chunk
        so_far = Reference(read)
        assert told(events) == so_far.events
        assert (parser.last_event_id, parser.retry) == (so_far.last_event_id, so_far.retry)


@given(STREAMS, CUTS, st.integers(0, 60))
def test_after_a_break_the_stream_is_read_on_from_the_id_of_the_last_whole_block(
    stream: bytes, cuts: list[int], broken: int
) -> None:
    first = EventStream()
    first.feed(stream[:broken])
    resumed = EventStream(last_event_id=first.last_event_id)
    events = [event for chunk in chunks(stream, cuts) for event in resumed.feed(chunk)]
    assert told(events) == Reference(stream, Reference(stream[:broken]).last_event_id).events


BYTES, LINES = 24, 3


@given(STREAMS, CUTS)
def test_what_is_too_large_ends_the_stream_after_all_that_was_whole(
    stream: bytes, cuts: list[int]
) -> None:
    line = BYTES + len(b"data: ")
    with (
        patch.object(sse_parser, "MAX_EVENT", BYTES),
        patch.object(sse_parser, "MAX_LINES", LINES),
        patch.object(sse_parser, "MAX_LINE", line),
    ):
        parser, events, refused = EventStream(), list[StreamEvent](), False
        for chunk in chunks(stream, cuts):
            try:
                events += parser.feed(chunk)
            except EventTooLarge as error:
                events += error.events
                refused = True
                break
            held = len(parser._partial) + sum(map(len, parser._data))
            assert held <= line + BYTES
    whole = Reference(stream)
    assert told(events) == whole.events[: len(events)]
    if not refused:
        assert told(events) == whole.events
        assert whole.longest_line <= line + len(b"\xef\xbb\xbf: ")
        assert whole.most_lines <= LINES
    elif whole.most_lines <= LINES:
        # What is no UTF-8 is three bytes more once it is replaced.
        assert whole.longest_line > line - len(b": ") or whole.largest_event > BYTES
