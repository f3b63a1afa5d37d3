"""AMQP 0-9-1 frames: deliveries cut out of a byte stream whole, none of them decoded.

A frame is type (1), channel (2), size (4), payload, 0xCE. A delivery is a method frame
`basic.deliver`, a content header frame and as many body frames as the body takes. Frames
of other channels may stand between them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from struct import Struct
from typing import Protocol

from actors.logic.bulks.bulk import Fetched
from actors.logic.settlement.ledger import Flush

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = 0xCE

_ACK, _REJECT, _NACK, _DELIVER = 0x003C0050, 0x003C005A, 0x003C0078, 0x003C003C
_DELIVER_BYTES = _DELIVER.to_bytes(4, "big")
_GET_OK_BYTES = (0x003C0047).to_bytes(4, "big")

_FRAME = Struct(">BHI")  # type, channel, size of the payload
_METHOD = Struct(">BHII")  # … and class and method
_HEADER = Struct(">BHIIQ")  # … and class and weight, size of the body
_BODY_SIZE = Struct(">Q")
_TAG = Struct(">QB")  # delivery tag, redelivered
_SETTLE = Struct(">BHIIQBB")  # a method frame: method, delivery tag, bits, end

#: A consumer tag's length stands 11 bytes into its frame; the delivery tag follows the tag.
_TAG_LENGTH, _AFTER_TAG = 11, 12


class Sink(Protocol):
    """The receiver of a channel's content frames."""

    def cut(self, buffer: bytes, start: int, limit: int) -> int:
        """Take whole deliveries from `start` on; returns where it stopped."""

    def add(self, kind: int, frame: bytes) -> bool:
        """Take one frame; False: it is not content."""


class Mute:
    """Drops the content of a channel: what a publisher gets back is already known."""

    def cut(self, buffer: bytes, start: int, limit: int) -> int:
        return start

    def add(self, kind: int, frame: bytes) -> bool:
        return kind != METHOD


class Glance:
    """Drops the one message that a channel got, and says that there is one."""

    def __init__(self, found: Callable[[], None]) -> None:
        self._found = found

    def cut(self, buffer: bytes, start: int, limit: int) -> int:
        return start

    def add(self, kind: int, frame: bytes) -> bool:
        if kind == METHOD and frame[7:11] == _GET_OK_BYTES:
            self._found()
            return True
        return kind != METHOD


class DeliveryBuffer:
    """Collects the deliveries of a channel that has one consumer, until they are taken."""

    def __init__(self, channel: int, queue: str, epoch: int) -> None:
        self._channel = channel
        self._queue = queue
        self._epoch = epoch
        self._next = 1  # delivery tag, and position in the epoch
        self._parts: list[bytes] = []
        self._size = 0
        self._ends = array("I")
        self._flagged: list[tuple[int, int]] = []
        self._partial: list[bytes] = []
        self._missing = 0
        self.broken = ""  #: how the tags ceased to count 1, 2, 3 …

    def take(self) -> Fetched | None:
        """All deliveries that came whole since the last time."""
        if not self._ends:
            return None
        first = self._next - len(self._ends)
        fetched = Fetched(
            self._queue,
            self._epoch,
            first,
            b"".join(self._parts),
            self._ends.tobytes(),
            tuple(self._flagged),
        )
        self._parts, self._size, self._ends, self._flagged = [], 0, array("I"), []
        return fetched

    def cut(self, buffer: bytes, start: int, limit: int) -> int:
        # The hot loop: most deliveries lie whole in the buffer, with a body of one frame.
        if self._partial:
            return start
        channel = self._channel
        base = self._size - start
        position = start
        while position + _METHOD.size <= limit:
            kind, number, size, method = _METHOD.unpack_from(buffer, position)
            header = position + size + 8
            if method != _DELIVER or number != channel or kind != METHOD:
                break
            if header + _HEADER.size > limit:
                break
            kind, number, size, _, body = _HEADER.unpack_from(buffer, header)
            end = header + size + 8
            if kind != HEADER or number != channel or end > limit:
                break
            if body:
                if end + _FRAME.size > limit:
                    break
                kind, number, size = _FRAME.unpack_from(buffer, end)
                end += size + 8
                if size != body or kind != BODY or number != channel or end > limit:
                    break
            if buffer[end - 1] != END:
                break
            self._count(buffer, position)
            self._ends.append(base + end)
            position = end
        if position > start:
            self._parts.append(buffer[start:position])
            self._size += position - start
        return position

    def add(self, kind: int, frame: bytes) -> bool:
        if kind == METHOD:
            if frame[7:11] != _DELIVER_BYTES:
                return False
            self._partial = [frame]
            return True
        self._partial.append(frame)
        if kind == HEADER:
            (self._missing,) = _BODY_SIZE.unpack_from(frame, 11)
        else:
            self._missing -= len(frame) - 8
        if self._missing <= 0:
            self._complete()
        return True

    def _complete(self) -> None:
        self._count(self._partial[0], 0)
        self._parts += self._partial
        self._size += sum(map(len, self._partial))
        self._ends.append(self._size)
        self._partial = []

    def _count(self, buffer: bytes, position: int) -> None:
        tag, bits = _TAG.unpack_from(buffer, position + _AFTER_TAG + buffer[position + _TAG_LENGTH])
        if tag != self._next:
            self.broken = self.broken or f"delivery tag {tag} came where {self._next} was due"
        self._next += 1
        if bits & 1:
            self._flagged.append((len(self._ends), 1))


class Slicer:
    """Parts the byte stream of a connection: content to the sinks, all else to the rest."""

    def __init__(self) -> None:
        self.sinks: dict[int, Sink] = {}  #: by channel
        self._tail = b""  # less than one frame

    def feed(self, data: bytes) -> bytes:
        """Returns, unchanged and in order, what no sink took."""
        buffer = self._tail + data if self._tail else data
        limit = len(buffer)
        position = 0
        rest: list[bytes] = []
        while position + _FRAME.size < limit:
            kind, channel, size = _FRAME.unpack_from(buffer, position)
            end = position + size + 8
            if kind not in (METHOD, HEADER, BODY, HEARTBEAT):
                rest.append(buffer[position:])  # no frame: for others to refuse
                position = limit
                break
            sink = self.sinks.get(channel)
            if sink is not None and kind == METHOD:
                stop = sink.cut(buffer, position, limit)
                if stop > position:
                    position = stop
                    continue
            if end > limit:
                break
            frame = buffer[position:end]
            if sink is None or frame[-1] != END or not sink.add(kind, frame):
                rest.append(frame)
            position = end
        self._tail = buffer[position:]
        return b"".join(rest)


class Delivery:
    """One delivery as it came; each part is cut out when it is asked for."""

    __slots__ = ("_header", "_raw")

    def __init__(self, raw: bytes | memoryview) -> None:
        self._raw = raw
        self._header = _FRAME.unpack_from(raw)[2] + 8

    @property
    def consumer_tag(self) -> str:
        return self._text(_TAG_LENGTH)

    @property
    def delivery_tag(self) -> int:
        tag: int = _TAG.unpack_from(self._raw, self._after_tag)[0]
        return tag

    @property
    def redelivered(self) -> bool:
        return bool(self._raw[self._after_tag + 8] & 1)

    @property
    def exchange(self) -> str:
        return self._text(self._after_tag + 9)

    @property
    def routing_key(self) -> str:
        exchange = self._after_tag + 9
        return self._text(exchange + 1 + self._raw[exchange])

    @property
    def properties(self) -> bytes:
        """Property flags and list, as the content header frame has them."""
        end = self._header + 7 + _FRAME.unpack_from(self._raw, self._header)[2]
        return bytes(self._raw[self._header + _HEADER.size : end])

    @property
    def body(self) -> bytes:
        position = self._header
        parts: list[bytes | memoryview] = []
        while True:
            position += _FRAME.unpack_from(self._raw, position)[2] + 8
            if position >= len(self._raw):
                return b"".join(parts)
            size = _FRAME.unpack_from(self._raw, position)[2]
            parts.append(self._raw[position + 7 : position + 7 + size])

    @property
    def size(self) -> int:
        """Bytes of the body, as the content header has it."""
        size: int = _HEADER.unpack_from(self._raw, self._header)[4]
        return size

    def beginning(self, most: int) -> bytes:
        """The first bytes of the body, no more than are in its first frame."""
        start = self._body
        if start >= len(self._raw):
            return b""
        size = min(most, _FRAME.unpack_from(self._raw, start)[2])
        return bytes(self._raw[start + _FRAME.size : start + _FRAME.size + size])

    def head(self, most: int) -> bytes:
        """All but the body, and of that what `beginning` returns."""
        return bytes(self._raw[: self._body + _FRAME.size + most])

    @property
    def _body(self) -> int:
        """Where the first frame of the body begins, or would."""
        size: int = self._header + 8 + _FRAME.unpack_from(self._raw, self._header)[2]
        return size

    @property
    def _after_tag(self) -> int:
        return _AFTER_TAG + self._raw[_TAG_LENGTH]

    def _text(self, position: int) -> str:
        start = position + 1
        return bytes(self._raw[start : start + self._raw[position]]).decode("utf-8", "replace")


def settle(channel: int, flush: Flush) -> bytes:
    """The frames that carry out a flush.

    What is given back goes first, for the `multiple` ack takes all that is left below it.
    """
    frames = [_frame(channel, _REJECT, tag, 1) for tag in flush.failed]
    frames += [_frame(channel, _NACK, tag, 2) for tag in flush.returned]
    frames += [_frame(channel, _REJECT, tag, 0) for tag in flush.rejected]
    if flush.prefix:
        frames.append(_frame(channel, _ACK, flush.prefix, 1))
    for first, last in flush.acked:
        beyond = range(max(first, flush.prefix + 1), last + 1)
        frames += [_frame(channel, _ACK, tag, 0) for tag in beyond]
    return b"".join(frames)


def _frame(channel: int, method: int, tag: int, bits: int) -> bytes:
    return _SETTLE.pack(METHOD, channel, 13, method, tag, bits, END)
