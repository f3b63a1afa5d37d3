"""The two ends of a connection between actors, each of which carries frames one way.

The side that connected writes frames, the side that accepted answers with acknowledgements
of fixed size. One acknowledges its frame and all before it: a connection keeps their order,
and ends at the first that is refused.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from actors.stages.link.session import (
    ANSWER_SIZE,
    GREETING_SIZE,
    HEADER_SIZE,
    HELLO_SIZE,
    TAG_SIZE,
    Address,
    Header,
    Identity,
    Receiver,
    Sender,
)

#: Answers that nobody waits for are read when the next frame goes out, or so many at once:
#: each would wake the sender for nothing.
_GATHERED = 64

_MAX_READ = 1024 * 1024

#: What ends connections with hosts that have vanished (Linux): an attempt to connect after 3
#: to 7 s, one that waits for an answer after 10 s, an idle one after 16 s.
_VIGILANCE = {
    "TCP_SYNCNT": 2,
    "TCP_USER_TIMEOUT": 10_000,
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
}


class Frame(NamedTuple):
    """A frame to send, and the caller who hears what became of it."""

    number: int  #: counts up, over all that an endpoint sends
    body: bytes
    told: Callable[[bool | None], object] | None = None


class Outgoing:
    """Frames to one endpoint, in order; each is kept until it is acknowledged."""

    def __init__(self, identity: Identity, target: Address) -> None:
        self.target = target
        self.socket: socket.socket | None = None
        self.frames: deque[Frame] = deque()
        self.blocked = True  #: not connected yet, or the kernel takes no more for now
        self.losses = 0  #: connections that ended, one after another, with nothing acknowledged
        self._identity = identity
        self._session: Sender | None = None  # once we are greeted
        self._sealed = 0  # of the frames, how many are sealed for this connection
        self._rest: list[memoryview] = []  # of what is being written
        self._read = b""
        self._soon = False

    def connect(self) -> socket.socket:
        """Begin to connect; raises OSError where that fails at once."""
        here = self._identity.address[0]
        self.socket = socket.socket()
        self.socket.setblocking(False)
        _prepare(self.socket, at_home=self.target[0] == here)
        if hasattr(socket, "IP_BIND_ADDRESS_NO_PORT"):
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((here, 0))  # what we say that we are
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
            least = 1 if self._soon or not self._session else _GATHERED * ANSWER_SIZE
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)

    def close(self) -> None:
        """Let go of the connection; what is not acknowledged would go out on the next."""
        if self.socket is not None:
            self.socket.close()
        self.socket, self.blocked = None, True
        self._session, self._sealed = None, 0
        self._rest, self._read = [], b""

    def write(self) -> None:
        """Write on, until all is written or `blocked`. Raises OSError where it is lost."""
        assert self.socket is not None
        self.blocked = False
        while self._rest or (self._session and self._sealed < len(self.frames)):
            if not self._rest:
                assert self._session is not None
                frame = self.frames[self._sealed]
                self._rest = [memoryview(each) for each in self._session.seal(*frame[:2])]
                self._sealed += 1
            try:
                written = self.socket.sendmsg(self._rest)
            except BlockingIOError:
                self.blocked = True
                return
            while self._rest and written >= len(self._rest[0]):
                written -= len(self._rest.pop(0))
            if written:
                self._rest[0] = self._rest[0][written:]

    def read(self) -> list[Frame]:
        """The frames that are newly acknowledged; `write` has work once we are greeted.

        Raises OSError where the connection is lost, `Refused` for what answers no frame.
        """
        assert self.socket is not None
        try:
            data = self.socket.recv(4096)
        except BlockingIOError:
            return []
        if not data:
            raise ConnectionResetError("the peer hung up")
        self._read += data
        if self._session is None:
            if len(self._read) < GREETING_SIZE:
                return []
            self._session = Sender(self._identity, self.target, self._take(GREETING_SIZE))
            self._rest = [memoryview(self._session.hello)]
            self._set_patience()
        count = 0
        while len(self._read) >= ANSWER_SIZE:
            count += self._session.acknowledged(self._take(ANSWER_SIZE))
        self._sealed -= count
        done = [self.frames.popleft() for _ in range(count)]
        if done:
            self.losses = 0
        if self._soon and not self.frames:
            self._soon = False
            self._set_patience()
        return done

    @property
    def greeted(self) -> bool:
        """Whether the peer has said anything on this connection."""
        return self._session is not None

    def _take(self, size: int) -> bytes:
        taken, self._read = self._read[:size], self._read[size:]
        return taken


class Incoming:
    """An accepted connection, from which frames are read."""

    def __init__(self, sock: socket.socket, identity: Identity) -> None:
        self.socket = sock
        self.session = Receiver(identity)
        self.origin = ""
        self.known = False  #: something of it has opened
        sock.setblocking(False)
        with suppress(OSError):  # Thespian wakes itself with connections that are gone at once
            self.origin = sock.getpeername()[0]
            _prepare(sock, at_home=self.origin == identity.address[0])
            sock.send(self.session.greeting)
        self._header: Header | None = None
        self._expect(HELLO_SIZE)

    def read(self) -> tuple[int, bytes] | None:
        """The number and the body of the next frame; None while it is not complete.

        Raises OSError at the end, `Refused` for what is not from one of us.
        """
        while self._is_full():
            if not self.session.met:
                self.session.meet(self._content, self.origin)
                self._expect(HEADER_SIZE)
            elif self._header is None:
                self._header = self.session.header(self._content)
                self.known = True
                self._expect(self._header.length + TAG_SIZE)
            else:
                number, self._header = self._header.number, None
                body = self.session.body(self._content)
                self._expect(HEADER_SIZE)
                return number, body
        return None

    def _expect(self, size: int) -> None:
        self._content, self._filled = bytearray(size), 0

    def _is_full(self) -> bool:
        view = memoryview(self._content)[self._filled : self._filled + _MAX_READ]
        try:
            count = self.socket.recv_into(view)
        except BlockingIOError:
            return False
        if not count:
            raise ConnectionResetError("the peer hung up")
        self._filled += count
        return self._filled == len(self._content)


def _prepare(sock: socket.socket, *, at_home: bool) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if at_home:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _VIGILANCE.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
