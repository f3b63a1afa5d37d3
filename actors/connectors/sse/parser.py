"""The event stream format, as the HTML standard has it, on top of sseclient-py.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
sseclient-py reads in quadratic time without a limit, and gives out half an event at the
end of a stream: its reading and joining are replaced, its `Event` is what comes out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from sseclient import Event, SSEClient

__all__ = ["Event", "EventStream", "EventTooLarge", "StreamEvent"]

MAX_EVENT = 16 * 1024 * 1024  #: bytes of data in one event
MAX_LINES = 100_000  #: lines of data in one event
MAX_LINE = MAX_EVENT + len(b"data: ")  #: bytes of one line of any kind

_BOM = b"\xef\xbb\xbf"
_RETRY_DIGITS = 18  #: of milliseconds: past that it is no time, and `int` becomes slow


class EventTooLarge(ValueError):
    """An event or a line over the limits; `events` were whole before it."""

    def __init__(self, what: str, events: list[StreamEvent]) -> None:
        super().__init__(what)
        self.events = events


class StreamEvent(Event):
    """An event of a stream: `id` is the last event id, "" where there is none."""

    id: str
    retry: int | None  #: milliseconds, where this event's block named them

    def __init__(self, id: str, event: str, data: str, retry: int | None, own_id: bool) -> None:
        self.id = id
        self.event = event
        self.data = data
        self.retry = retry
        self.own_id = own_id  #: the block had an `id:` of its own


class EventStream(SSEClient):
    """An incremental parser: `feed` it what was read, it returns the events that are whole.

    What is left at the end of a stream was never finished and is dropped. Invalid UTF-8
    becomes U+FFFD. Time is linear, memory is bounded by `MAX_EVENT`.
    """

    def __init__(self, source: Iterable[bytes] = (), *, last_event_id: str = "") -> None:
        self._source = iter(source)
        super().__init__(self._source)
        self.last_event_id = last_event_id  #: of the last block that was whole
        self.retry: int | None = None  #: milliseconds, as the stream last said
        self._id = last_event_id
        self._at_start = True
        self._after_cr = False
        self._partial = bytearray()
        # Of the block that has begun:
        self._data: list[bytes] = []
        self._size = 0
        self._event = b""
        self._retry: int | None = None
        self._own_id = False

    def events(self) -> Generator[StreamEvent, None, None]:
        """The events of the source that was given; raises `EventTooLarge`."""
        for chunk in self._source:
            try:
                yield from self.feed(chunk)
            except EventTooLarge as error:
                yield from error.events
                raise

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Take the next bytes of the stream; raises `EventTooLarge`, after which it is over."""
        events: list[StreamEvent] = []
        try:
            for line in self._lines(chunk):
                if not line:
                    self._end_block(events)
                    continue
                name, _, value = line.partition(b":")
                if value[:1] == b" ":
                    value = value[1:]
                if name == b"data":
                    self._add_data(value)
                else:
                    self._field(name, value)
            if len(self._partial) > MAX_LINE:
                raise _TooLarge(f"a line of more than {MAX_LINE} bytes")
        except _TooLarge as error:
            self._partial.clear()
            raise EventTooLarge(str(error), events) from None
        return events

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that are whole by now, without their ends: LF, CR or CRLF."""
        if not chunk:
            return []
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the other half of a CRLF that was cut in two
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.splitlines()  # of bytes: at LF, CR and CRLF only
        rest = lines.pop() if chunk and chunk[-1] not in b"\r\n" else b""
        if lines and (self._partial or self._at_start):
            lines[0] = self._first_line(lines[0])
        self._partial += rest
        return lines

    def _first_line(self, line: bytes) -> bytes:
        line = bytes(self._partial) + line
        self._partial.clear()
        if self._at_start:
            self._at_start = False
            return line.removeprefix(_BOM)
        return line

    def _field(self, name: bytes, value: bytes) -> None:
        if len(name) + len(value) >= MAX_LINE:
            raise _TooLarge(f"a line of more than {MAX_LINE} bytes")
        if name == b"event":
            self._event = value
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
                self._own_id = True
        elif name == b"retry" and value.isdigit() and len(value) <= _RETRY_DIGITS:
            self.retry = self._retry = int(value)

    def _add_data(self, value: bytes) -> None:
        data = self._data
        data.append(value)
        self._size += len(value)
        if self._size + len(data) - 1 > MAX_EVENT:
            raise _TooLarge(f"an event of more than {MAX_EVENT} bytes")
        if len(data) > MAX_LINES:
            raise _TooLarge(f"an event of more than {MAX_LINES} data lines")

    def _end_block(self, events: list[StreamEvent]) -> None:
        id = self.last_event_id = self._id
        if self._data:
            data = b"\n".join(self._data).decode("utf-8", "replace")
            name = self._event.decode("utf-8", "replace") if self._event else "message"
            events.append(StreamEvent(id, name, data, self._retry, self._own_id))
            self._data = []
            self._size = 0
        self._event = b""
        self._retry = None
        self._own_id = False


class _TooLarge(Exception):
    """Over a limit; `feed` adds what was whole before it."""
