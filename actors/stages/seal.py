"""Authentication of the frames between actors, before anything is unpickled.

A frame is a header of fixed size and a body. The header carries the body's SHA-256
and a MAC of all its fields, so a length is believed, and memory taken, only for who
holds the key. SHA-256 in the body's place and keyed BLAKE2b for the 72 bytes of the
header is the cheapest pair: 2 µs for 1 KiB, 75 µs for 100 KiB (BLAKE2b alone: 150 µs).
"""

from __future__ import annotations

import hmac
import os
import struct
import time
from collections import OrderedDict
from hashlib import blake2b, sha256
from typing import NamedTuple

MAX_BODY = 512 * 1024 * 1024
MAX_SENDERS = 4096  #: senders whose counters are remembered
MAX_MISSING = 1024  #: numbers of one sender that may still arrive late
MAC_SIZE = 16

_FIELDS = struct.Struct("!4sI8sQQ32s")
_MAGIC = b"CBF1"
HEADER_SIZE = _FIELDS.size + MAC_SIZE


class Refused(Exception):
    """A frame that is not for us, or not from one of us."""


class Header(NamedTuple):
    length: int
    sender: bytes
    number: int  #: consecutive for each sender and receiver
    stamp: int  #: CLOCK_MONOTONIC in ns
    digest: bytes
    mac: bytes


class _Sender:
    """Which numbers of one sender have been seen."""

    def __init__(self) -> None:
        self.highest = 0
        self.missing: set[int] = set()
        self.stamp = 0

    def is_new(self, number: int) -> bool:
        if number <= self.highest:
            return number in self.missing
        return True

    def note(self, number: int, stamp: int) -> None:
        self.missing.discard(number)
        self.missing.update(range(max(self.highest + 1, number - MAX_MISSING), number))
        while len(self.missing) > MAX_MISSING:
            self.missing.remove(min(self.missing))
        self.highest = max(self.highest, number)
        self.stamp = max(self.stamp, stamp)


class Seal:
    """Seals what one endpoint sends, and checks what it receives."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("the key of a system is 32 bytes")
        self._key = key
        self._id = os.urandom(8)
        self._sent: dict[int, int] = {}
        self._senders: OrderedDict[bytes, _Sender] = OrderedDict()
        # Ports are used again: what was sealed before our birth was for another process.
        self._floor = time.monotonic_ns()

    def seal(self, port: int, body: bytes) -> bytes:
        """The frame that carries `body` to the endpoint that listens on `port`."""
        number = self._sent[port] = self._sent.get(port, 0) + 1
        fields = _FIELDS.pack(
            _MAGIC, len(body), self._id, number, time.monotonic_ns(), sha256(body).digest()
        )
        return b"".join((fields, self._mac(fields, port), body))

    def header(self, data: bytes | bytearray, port: int) -> Header:
        """Check and take apart a header received on `port`; raises `Refused`."""
        fields, mac = bytes(data[: _FIELDS.size]), bytes(data[_FIELDS.size :])
        magic, length, sender, number, stamp, digest = _FIELDS.unpack(fields)
        if magic != _MAGIC:
            raise Refused("not a frame")
        if length > MAX_BODY:
            raise Refused(f"announces {length} bytes")
        if not hmac.compare_digest(mac, self._mac(fields, port)):
            raise Refused("wrong MAC")
        if stamp < self._floor:
            raise Refused("older than its receiver")
        return Header(length, sender, number, stamp, digest, mac)

    def accept(self, header: Header, body: bytes | bytearray) -> bool:
        """Whether the frame is new; a repeated one is to be acknowledged and dropped.

        Raises `Refused` for a body that is not the one that was sealed.
        """
        if not hmac.compare_digest(sha256(body).digest(), header.digest):
            raise Refused("wrong body")
        sender = self._senders.get(header.sender) or _Sender()
        if not sender.is_new(header.number):
            return False
        sender.note(header.number, header.stamp)
        self._senders[header.sender] = sender
        self._senders.move_to_end(header.sender)
        if len(self._senders) > MAX_SENDERS:
            _, forgotten = self._senders.popitem(last=False)
            self._floor = max(self._floor, forgotten.stamp + 1)
        return True

    def acknowledgement(self, mac: bytes) -> bytes:
        """What only a holder of the key can answer to the frame with this MAC."""
        return blake2b(mac, key=self._key, digest_size=MAC_SIZE, person=b"ack").digest()

    def _mac(self, fields: bytes, port: int) -> bytes:
        return blake2b(
            fields + port.to_bytes(4, "big"), key=self._key, digest_size=MAC_SIZE, person=b"frame"
        ).digest()


def mac_of(frame: bytes | memoryview) -> bytes:
    """The MAC of a frame of our own."""
    return bytes(frame[_FIELDS.size : HEADER_SIZE])
