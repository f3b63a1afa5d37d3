"""AMQP 0-9-1 message properties, edited as bytes: no value is ever decoded.

A copy of a message must not fail over a header that nobody can read (a date past the
year 9999, a table nested 2,000 deep), nor change one that only its sender understands.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from struct import Struct, error

_SHORT = Struct(">H")
_LONG = Struct(">I")

#: In the order of their flags, from the highest bit; size in bytes, 0: short string.
_FIELDS = (
    ("content_type", 0),
    ("content_encoding", 0),
    ("headers", -1),
    ("delivery_mode", 1),
    ("priority", 1),
    ("correlation_id", 0),
    ("reply_to", 0),
    ("expiration", 0),
    ("message_id", 0),
    ("timestamp", 8),
    ("type", 0),
    ("user_id", 0),
    ("app_id", 0),
    ("cluster_id", 0),
)

#: Bytes of a table value after its type letter; strings, arrays and tables tell their own.
_SIZES = dict(zip(b"tbBUusIifLldTDV", (1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 8, 5, 0), strict=True))
_SIZED = frozenset(b"SxAF")

_OURS = b"x-callboard-"
_RAW_LIMIT = 4096
_NOTE_LIMIT = 300
_VALUE_HEAD = 5  # of a text in a table: its type and its size

#: What a copy without room for all is not made without.
_ESSENTIAL = frozenset(("headers", "delivery_mode", "message_id"))

#: Headers that a quorum queue adds to what it delivers again.
_RETURNS = frozenset((b"x-delivery-count", b"x-acquired-count"))

#: Headers that no copy carries. A broker sends the copy to `CC` and `BCC` too. Where `x-death`
#: names the queue that a copy expires to, it sees a cycle and keeps or deletes the copy.
_DROPPED = _RETURNS | {b"CC", b"BCC", b"x-death"}
_DROPPED_PREFIXES = (_OURS, b"x-first-death-", b"x-last-death-")


def copied(
    raw: bytes,
    headers: Mapping[str, str | int],
    message_id: bytes,
    room: int = sys.maxsize,
    *,
    bare: bool = False,
) -> bytes:
    """The properties of a durable copy: as they were, with `headers` of ours in place of older.

    Leaves out what would make the broker expire, refuse, delete or divert the copy: `expiration`,
    `user_id` and the headers `_DROPPED`. What cannot be parsed travels as hex in a header, and so
    does all of a `bare` copy. What does not fit into `room` bytes is left out, and named.
    """
    try:
        fields = {} if bare else split(raw)
        kept = [
            (name, value)
            for name, value in entries(fields.get("headers", bytes(4)))
            if name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES)
        ]
        if bare:
            raise ValueError
    except ValueError:
        fields, kept = {}, [(b"x-callboard-properties", _value(raw[:_RAW_LIMIT].hex()))]
    for name in ("expiration", "user_id"):
        fields.pop(name, None)
    fields["delivery_mode"] = b"\2"
    if len(fields.get("message_id", b"")) <= 1:
        fields["message_id"] = bytes([len(message_id)]) + message_id
    ours = encoded(headers)
    fields["headers"] = table(kept + ours)
    properties = join(fields)
    return properties if len(properties) <= room else _fitted(fields, kept, ours, room)


def _fitted(
    fields: dict[str, bytes],
    kept: list[tuple[bytes, bytes]],
    ours: list[tuple[bytes, bytes]],
    room: int,
) -> bytes:
    """What is largest gives way until the rest fits: texts of ours by half, all else wholly."""
    left_out: list[str] = []
    while True:
        note = f"for want of room: {', '.join(left_out)}"[:_NOTE_LIMIT]
        fields["headers"] = table([*kept, *ours, *encoded({"x-callboard-left-out": note})])
        properties = join(fields)
        if len(properties) <= room:
            return properties
        texts = [(len(value), index) for index, (_, value) in enumerate(ours) if value[:1] == b"S"]
        text, ours_at = max(texts, default=(0, 0))
        header, kept_at = max(((len(v), at) for at, (_, v) in enumerate(kept)), default=(0, 0))
        optional = [(len(value), name) for name, value in fields.items() if name not in _ESSENTIAL]
        size, name = max(optional, default=(0, ""))
        if header and header >= max(text, size):
            gone, _ = kept.pop(kept_at)
            left_out.append(f"{gone.decode('utf-8', 'backslashreplace')} ({header} bytes)")
        elif size > text:
            del fields[name]
            left_out.append(f"{name} ({size} bytes)")
        elif text > _VALUE_HEAD:
            half = ours[ours_at][1][_VALUE_HEAD : (text + _VALUE_HEAD) // 2]
            ours[ours_at] = ours[ours_at][0], _value(half.decode("utf-8", "ignore"))
        else:
            raise ValueError(f"{len(properties)} bytes of headers do not fit into {room}")


def identity(raw: bytes) -> bytes:
    """The message id; empty where there is none that can be read."""
    try:
        return split(raw).get("message_id", b"")[1:]
    except ValueError:
        return b""


def unreturned(raw: bytes) -> bytes:
    """Properties that put a message back where it lies, as if it had never been delivered.

    Leaves out what the broker counted, and what would make it refuse or divert the copy.
    """
    try:
        fields = split(raw)
        headers = entries(fields.get("headers", bytes(4)))
    except ValueError:
        return raw
    kept = [entry for entry in headers if entry[0] not in _RETURNS | {b"CC", b"BCC"}]
    if len(kept) < len(headers):
        fields["headers"] = table(kept)
    fields.pop("user_id", None)
    return join(fields)


def lasting(raw: bytes) -> bytes:
    """Properties as they are each time that a message is delivered.

    A quorum queue adds its counts when it comes back, and sorts the headers for that.
    """
    try:
        fields = split(raw)
        headers = sorted(
            entry for entry in entries(fields.pop("headers", bytes(4))) if entry[0] not in _RETURNS
        )
    except ValueError:
        return raw
    return join(fields | {"headers": table(headers)} if headers else fields)


def split(raw: bytes) -> dict[str, bytes]:
    """Property flags and list into encoded fields by name; raises ValueError."""
    try:
        (flags,) = _SHORT.unpack_from(raw)
        position = _SHORT.size
        fields = {}
        for index, (name, size) in enumerate(_FIELDS):
            if flags & (0x8000 >> index):
                if size == 0:
                    size = 1 + raw[position]
                elif size < 0:
                    size = 4 + _LONG.unpack_from(raw, position)[0]
                fields[name] = raw[position : position + size]
                position += size
    except (error, IndexError) as broken:
        raise ValueError(f"properties end early: {broken}") from None
    if position != len(raw):
        raise ValueError(f"properties of {len(raw)} bytes end at {position}")
    return fields


def join(fields: Mapping[str, bytes]) -> bytes:
    """What `split` takes apart."""
    flags = sum(0x8000 >> index for index, (name, _) in enumerate(_FIELDS) if name in fields)
    return _SHORT.pack(flags) + b"".join(fields[name] for name, _ in _FIELDS if name in fields)


def entries(encoded: bytes) -> list[tuple[bytes, bytes]]:
    """A table into (name, value with its type letter); raises ValueError."""
    found = []
    position = _LONG.size
    try:
        while position < len(encoded):
            start = position + 1
            position = start + encoded[position]
            name = encoded[start:position]
            kind = encoded[position]
            if kind in _SIZED:
                size = 4 + _LONG.unpack_from(encoded, position + 1)[0]
            else:
                size = _SIZES[kind]
            found.append((name, encoded[position : position + 1 + size]))
            position += 1 + size
    except (error, IndexError) as broken:
        raise ValueError(f"table ends early: {broken}") from None
    except KeyError:
        raise ValueError(f"table has a value of unknown type {kind:#x}") from None
    if position != len(encoded):
        raise ValueError(f"table of {len(encoded)} bytes ends at {position}")
    return found


def table(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """What `entries` takes apart."""
    body = b"".join(bytes([len(name)]) + name + value for name, value in pairs)
    return _LONG.pack(len(body)) + body


def encoded(headers: Mapping[str, str | int]) -> list[tuple[bytes, bytes]]:
    """Headers of our own as `table` takes them."""
    return [(name.encode(), _value(value)) for name, value in headers.items()]


def _value(value: str | int) -> bytes:
    if isinstance(value, int):
        return b"l" + min(max(value, -(2**63)), 2**63 - 1).to_bytes(8, "big", signed=True)
    text = value.encode("utf-8", "replace")
    return b"S" + _LONG.pack(len(text)) + text
