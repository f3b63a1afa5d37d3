"""AMQP as bare frames on a blocking socket: the limit to compare with, and a quick publisher.

Knows no more of the protocol than it needs and checks nothing. Only the standard library.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from itertools import islice
from urllib.parse import unquote, urlsplit

_FRAME = struct.Struct(">BHI")
_END = b"\xce"
_METHOD, _HEADER, _BODY = 1, 2, 3
_LOGIN = b"\0guest\0guest"
FRAME_MAX = 131_072


class Bare:
    """One connection with one channel, to `amqp://guest:guest@HOST:PORT/VHOST`."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        plain = socket.create_connection((parts.hostname, parts.port or 5672))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        self._socket.sendall(b"AMQP\0\0\x09\x01")
        self._socket.recv(65536)
        login = struct.pack(">I", len(_LOGIN)) + _LOGIN
        self._call(0, 0x000A000B, bytes(4) + _text("PLAIN") + login + _text("en_US"))
        self._send(0, 0x000A001F, struct.pack(">HIH", 2047, FRAME_MAX, 0))
        self._call(0, 0x000A0028, _text(unquote(parts.path[1:])) + b"\0\0")
        self._call(1, 0x0014000A, _text(""))

    def publish(self, queue: str, bodies: Iterable[bytes], block: int = 256) -> None:
        """Send to a queue, transient and unconfirmed, so many in one write."""
        method = struct.pack(">IH", 0x003C0028, 0) + _text("") + _text(queue) + b"\0"
        head = _frame(_METHOD, 1, method)
        bodies = iter(bodies)
        while several := list(islice(bodies, block)):
            self._socket.sendall(b"".join(head + _content(body) for body in several))

    def declare(self, queue: str) -> int:
        """A classic queue of that name, which need not exist; returns its depth."""
        answer = self._call(1, 0x0032000A, b"\0\0" + _text(queue) + b"\0" + bytes(4))
        (depth,) = struct.unpack_from(">I", answer, 7 + 4 + 1 + len(queue))
        return int(depth)

    def delete(self, queue: str) -> None:
        """Where there is such a queue."""
        self._call(1, 0x00320028, b"\0\0" + _text(queue) + b"\0")

    def consume(self, queue: str, prefetch: int, bodies: int, hit: Callable[[int], None]) -> None:
        """Count so many bodies, telling `hit` of those of each read; acknowledge every 256th."""
        self._call(1, 0x003C000A, struct.pack(">IHB", 0, prefetch, 0))
        self._send(1, 0x003C0014, b"\0\0" + _text(queue) + _text("") + b"\0" + bytes(4))
        tail, count, acked = b"", 0, 0
        while acked < bodies:
            before = count
            data = tail + self._socket.recv(FRAME_MAX)
            position, limit = 0, len(data)
            while position + 7 <= limit:
                kind, _, size = _FRAME.unpack_from(data, position)
                if position + size + 8 > limit:
                    break
                position += size + 8
                # The server may cut a large body into several frames.
                count += kind == _HEADER
            tail = data[position:]
            due = bodies if count == bodies else count // 256 * 256
            if due > acked:
                self._send(1, 0x003C0050, struct.pack(">QB", due, 1))
                acked = due
            hit(count - before)

    def close(self) -> None:
        self._socket.close()

    def _send(self, channel: int, index: int, arguments: bytes) -> None:
        payload = struct.pack(">I", index) + arguments
        self._socket.sendall(_frame(_METHOD, channel, payload))

    def _call(self, channel: int, index: int, arguments: bytes) -> bytes:
        self._send(channel, index, arguments)
        return self._socket.recv(65536)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _FRAME.pack(kind, channel, len(payload)) + payload + _END


def _content(body: bytes) -> bytes:
    """Header without properties, and the body in one frame."""
    header = struct.pack(">HHQH", 60, 0, len(body), 0)
    return _frame(_HEADER, 1, header) + _frame(_BODY, 1, body)


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()
