"""The two ends of a connection between actors, each of which carries frames one way.

The side that connected writes frames, the side that accepted answers with acknowledgements
of fixed size. One acknowledges its frame and all before it: a connection keeps their order,
and ends at the first that is refused.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from actors.stages.seal import HEADER_SIZE, MAC_SIZE, Header, Refused, mac_of

STRANGER_SECONDS = 30.0
#: Acknowledgements that nobody waits for are read when the next frame goes out, or so many
#: at once: each would wake the sender for nothing.
_GATHERED = 64

_MAX_READ = 1024 * 1024


class Frame(NamedTuple):
    """What is sent, and whom to tell what became of it."""

    data: bytes
    told: Callable[[bool | None], object] | None = None


class Outgoing:
    """Frames to one endpoint, in order; each is kept until it is acknowledged."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.socket: socket.socket | None = None
        self.frames: deque[Frame] = deque()
        self.blocked = True  #: not connected yet, or the kernel takes no more for now
        self.losses = 0  #: connections that ended, one after another, with nothing acknowledged
        self._written = 0  # of the frames, how many the kernel has taken
        self._offset = 0  # … and how much of the next
        self._answers = b""
        self._soon = False

    def connect(self) -> socket.socket:
        """Begin to connect; raises OSError where that fails at once."""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = self.socket.connect_ex(self.target)
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, os.strerror(error))
        self._set_patience()
        return self.socket

    def hurry(self) -> None:
        """Have each acknowledgement make the socket readable, until there is none to come."""
        self._soon = True
        self._set_patience()

    def _set_patience(self) -> None:
        if self.socket is not None:
            least = 1 if self._soon else _GATHERED * MAC_SIZE
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)

    def close(self) -> None:
        """Let go of the connection; what is not acknowledged would go out on the next."""
        if self.socket is not None:
            self.socket.close()
        self.socket, self.blocked = None, True
        self._written = self._offset = 0
        self._answers = b""

    def write(self) -> None:
        """Write on, until all is written or `blocked`. Raises OSError where it is lost."""
        assert self.socket is not None
        self.blocked = False
        while self._written < len(self.frames):
            data = self.frames[self._written].data
            try:
                self._offset += self.socket.send(memoryview(data)[self._offset :])
            except BlockingIOError:
                self.blocked = True
                return
            if self._offset == len(data):
                self._written, self._offset = self._written + 1, 0

    def read(self, answer_to: Callable[[bytes], bytes]) -> list[Frame]:
        """The frames that are newly acknowledged.

        Raises OSError where the connection is lost, `Refused` for what answers no frame.
        """
        assert self.socket is not None
        try:
            data = self.socket.recv(4096)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError("the peer hung up")
        self._answers += data
        done: list[Frame] = []
        while len(self._answers) >= MAC_SIZE:
            answer, self._answers = self._answers[:MAC_SIZE], self._answers[MAC_SIZE:]
            done += self._acknowledged(answer, answer_to)
        if done:
            self.losses = 0
        if self._soon and not self.frames:
            self._soon = False
            self._set_patience()
        return done

    def _acknowledged(self, answer: bytes, answer_to: Callable[[bytes], bytes]) -> Iterator[Frame]:
        for count in range(self._written):
            if answer_to(mac_of(self.frames[count].data)) == answer:
                self._written -= count + 1
                return iter([self.frames.popleft() for _ in range(count + 1)])
        raise Refused("it acknowledges nothing")


class Incoming:
    """An accepted connection, from which frames are read."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.origin = _peer(sock)
        self.known = False  #: has sent an authentic frame
        self.deadline = time.monotonic() + STRANGER_SECONDS
        self.begin()

    def begin(self) -> None:
        """A frame is done with: the next header is due."""
        self.header: Header | None = None
        self.content = bytearray(HEADER_SIZE)
        self._filled = 0

    def take(self, header: Header) -> None:
        """The header is authentic: make room for the body."""
        self.header, self.content, self._filled = header, bytearray(header.length), 0

    def read(self) -> bool:
        """Read on; whether the header or body is complete. Raises OSError at the end."""
        if self._filled < len(self.content):
            view = memoryview(self.content)[self._filled : self._filled + _MAX_READ]
            try:
                count = self.socket.recv_into(view)
            except BlockingIOError:
                return False
            if not count:
                raise ConnectionResetError("the peer hung up")
            self._filled += count
        return self._filled == len(self.content)


def _peer(sock: socket.socket) -> Any:
    try:
        return sock.getpeername()
    except OSError:  # Thespian wakes itself with connections that are gone at once
        return None
