"""Frames between endpoints, authenticated, in order, and acknowledged; knows no Thespian.

Sockets stay registered with one selector, frames are written at once, and one pass reads
all that a socket has. A frame whose connection is lost goes out again on the next one; the
receiver drops what it has had.
"""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from actors.stages.seal import Refused, Seal
from actors.stages.sockets import Frame, Incoming, Outgoing
from actors.stages.tally import Tally

log = logging.getLogger(__name__)

MAX_STRANGERS = 256  #: connections that have not yet sent an authentic frame
MAX_WAITING = 100_000  #: frames to one endpoint; what is sent beyond is lost, and said to be
MAX_LOSSES = 3  #: connections that a frame may cost before it is given up
BACKOFF = 0.1  #: seconds before the third connection
MOST_FRAMES = 16  #: read from one socket in one pass

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

Address = tuple[str, int]
Told = Callable[[bool | None], object]  #: True: it arrived; False: nobody listens; None: given up


class Exchange:
    """All connections of one endpoint."""

    def __init__(self, listener: socket.socket, seal: Seal) -> None:
        listener.setblocking(False)
        self.tally = Tally(log)
        self.received: list[bytearray] = []  #: bodies, in the order in which they came
        self.accepted = False  #: somebody has connected since this was last looked at
        self._listener = listener
        self._port: int = listener.getsockname()[1]
        self._seal = seal
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, READ, self._accept)
        self._outgoing: dict[Address, Outgoing] = {}
        self._again: dict[Address, float] = {}  # when to connect
        self._incoming: set[Incoming] = set()
        self._strangers: dict[Incoming, None] = {}  # the oldest first
        self._watched: list[int] = []

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
        self._selector.close()
        for out in self._outgoing.values():
            out.close()
        for inc in self._incoming:
            inc.socket.close()

    def filenos(self) -> list[int]:
        """What a forked child has no use for."""
        keys = [key.fd for key in self._selector.get_map().values() if key.data is not None]
        own = getattr(self._selector, "fileno", None)
        return keys + ([own()] if own else [])

    def watch(self, filenos: list[int]) -> None:
        """Have `turn` tell when these are readable.

        All are registered anew: one may have been closed, and its number given again.
        """
        for each in self._watched:
            with suppress(KeyError):
                self._selector.unregister(each)
        self._watched = []
        for each in filenos:
            with suppress(KeyError, ValueError, OSError):  # named twice, or closed by now
                self._selector.register(each, READ)
                self._watched.append(each)

    def turn(self, timeout: float | None) -> list[int]:
        """Wait for something to happen and do it; returns those watched that are readable."""
        now = time.monotonic()
        for target in [target for target, due in self._again.items() if due <= now]:
            del self._again[target]
            self._connect(self._outgoing[target])
        dues = [*self._again.values(), *(inc.deadline for inc in [*self._strangers][:1])]
        if dues:
            due = max(0.0, min(dues) - now)
            timeout = due if timeout is None else min(timeout, due)
        readable: list[int] = []
        for key, mask in self._selector.select(timeout):
            if key.data is None:
                readable.append(key.fd)
            else:
                key.data(mask)
        if self._strangers:
            self._refuse_late(time.monotonic())
        return readable

    # ── sending ────────────────────────────────────────────────────────────────

    @property
    def unsent(self) -> int:
        """Frames that nobody has acknowledged."""
        return sum(len(out.frames) for out in self._outgoing.values())

    def hurry(self) -> None:
        """Somebody waits for `unsent` to become 0."""
        for out in self._outgoing.values():
            out.hurry()

    def post(self, target: Address, body: bytes, told: Told | None = None) -> None:
        """Send a body, and tell what became of it; in a later turn, unless too much waits."""
        out = self._outgoing.get(target)
        if out is None:
            out = self._outgoing[target] = Outgoing(target)
            self._again[target] = 0.0
        if len(out.frames) >= MAX_WAITING:
            self.tally.add("lost a frame", f"{MAX_WAITING} wait for {target}")
            _tell([Frame(b"", told)], None)
            return
        out.frames.append(Frame(self._seal.seal(target[1], body), told))
        if told is not None:
            out.hurry()
        if out.socket is not None and not out.blocked:
            self._progress(out, READ | WRITE)

    def _connect(self, out: Outgoing) -> None:
        try:
            self._selector.register(out.connect(), READ | WRITE, partial(self._progress, out))
        except OSError as problem:
            self._lose(out, problem)

    def _progress(self, out: Outgoing, mask: int) -> None:
        if out.socket is None:
            return  # let go of in this very pass
        try:
            done = out.read(self._seal.acknowledgement) if mask & READ else []
        except (OSError, Refused) as problem:
            self._lose(out, problem)
            return
        if mask & WRITE:
            self._write(out)
        _tell(done, True)

    def _write(self, out: Outgoing) -> None:
        was_blocked = out.blocked
        try:
            out.write()
        except OSError as problem:
            self._lose(out, problem)
            return
        if out.blocked != was_blocked:
            assert out.socket is not None
            key = self._selector.get_key(out.socket)
            self._selector.modify(out.socket, READ | (WRITE if out.blocked else 0), key.data)

    def _lose(self, out: Outgoing, problem: Exception) -> None:
        if out.socket is not None:
            with suppress(KeyError):
                self._selector.unregister(out.socket)
        out.close()
        if isinstance(problem, Refused):
            self.tally.add("refused an acknowledgement", f"{problem}, by {out.target}")
        given_up: list[Frame] = []
        nobody = isinstance(problem, ConnectionRefusedError)
        if nobody:
            given_up = [*out.frames]
        elif out.frames:
            out.losses += 1
            if out.losses == MAX_LOSSES:  # the first may be what its receiver cannot bear
                self.tally.add("lost a frame", f"to {out.target}: {problem}")
                given_up, out.losses = [out.frames.popleft()], 0
        if nobody or not out.frames:
            del self._outgoing[out.target]
        else:
            self._again[out.target] = time.monotonic() + (BACKOFF if out.losses != 1 else 0.0)
        _tell(given_up, False if nobody else None)

    # ── receiving ──────────────────────────────────────────────────────────────

    def _accept(self, _mask: int) -> None:
        self.accepted = True
        try:
            sock, _ = self._listener.accept()
        except OSError as problem:
            if problem.errno != errno.EAGAIN:
                self.tally.add("could not accept a connection", problem)
            return
        sock.setblocking(False)
        with suppress(OSError):  # gone already, on some systems
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        inc = Incoming(sock)
        self._incoming.add(inc)
        self._strangers[inc] = None
        self._selector.register(sock, READ, partial(self._receive, inc))
        if len(self._strangers) > MAX_STRANGERS:
            self._refuse(next(iter(self._strangers)), f"more than {MAX_STRANGERS} say nothing")

    def _receive(self, inc: Incoming, _mask: int) -> None:
        if inc not in self._incoming:
            return  # let go of in this very pass
        mac, problem = b"", None
        try:
            for _ in range(MOST_FRAMES):
                if not self._read(inc):
                    break
                assert inc.header is not None
                mac = inc.header.mac
                inc.begin()
        except (OSError, Refused) as error:
            problem = error
        if mac:
            with suppress(OSError):  # gone, or it reads no answers: the next says it again
                inc.socket.send(self._seal.acknowledgement(mac))
        if isinstance(problem, Refused):
            self._refuse(inc, str(problem))
        elif problem is not None:
            self._let_go(inc)

    def _read(self, inc: Incoming) -> bool:
        """Read one frame, or as much of it as there is; whether it is complete."""
        if not inc.read():
            return False
        if inc.header is None:
            inc.take(self._seal.header(inc.content, self._port))
            if not inc.read():
                return False
        assert inc.header is not None
        if self._seal.accept(inc.header, inc.content):
            self._strangers.pop(inc, None)
            self.received.append(inc.content)
        else:
            self.tally.add("dropped a repeated frame", f"from {inc.origin}")
        return True

    def _refuse_late(self, now: float) -> None:
        for inc in [inc for inc in self._strangers if inc.deadline < now]:
            self._refuse(inc, "said nothing for too long")

    def _refuse(self, inc: Incoming, why: str) -> None:
        self.tally.add("refused a connection", f"{why}, from {inc.origin}")
        self._let_go(inc)

    def _let_go(self, inc: Incoming) -> None:
        self._selector.unregister(inc.socket)
        self._strangers.pop(inc, None)
        self._incoming.discard(inc)
        inc.socket.close()


def _tell(frames: list[Frame], arrived: bool | None) -> None:
    for frame in frames:
        if frame.told is not None:
            frame.told(arrived)
