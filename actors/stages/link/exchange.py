"""Frames between endpoints, sealed, in order, and acknowledged; knows no Thespian.

Sockets stay registered with one selector, frames are written at once, and one pass reads
all that a socket has. A frame whose connection is lost goes out again on the next one; the
receiver drops what it has had.
"""

from __future__ import annotations

import errno
import itertools
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from actors.log import ThrottledLog, own_logger
from actors.logic.supervision.peers import UnreachableNodes
from actors.stages.link.listener import Listener
from actors.stages.link.session import Address, Identity, Refused
from actors.stages.link.sockets import Frame, Outgoing

log = own_logger(__name__)

MAX_WAITING = 100_000  #: frames to one endpoint; what is sent beyond is lost, and said to be
MAX_LOSSES = 3  #: connections that a frame may cost before it is given up
BACKOFF = 0.1  #: seconds before the third connection

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: What a host that is gone, or beyond a cut link, looks like.
_AWAY = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}

Told = Callable[[bool | None], object]  #: True: it arrived; False: nobody listens; None: given up


class Exchange:
    """All connections of one endpoint."""

    def __init__(self, listener: socket.socket, identity: Identity) -> None:
        self.throttled_log = ThrottledLog(log)
        self._identity = identity
        self._selector = selectors.DefaultSelector()
        self.listener = Listener(listener, identity, self._selector, self.throttled_log)
        self._outgoing: dict[Address, Outgoing] = {}
        self._again: dict[Address, float] = {}  # when to connect
        self._unreachable = UnreachableNodes()
        self._numbers = itertools.count(1)
        self._watched: list[int] = []

    def close(self) -> None:
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
        self._selector.close()
        for out in self._outgoing.values():
            out.close()
        self.listener.close()

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
            if self._again.pop(target, None) is not None:  # the host of it was lost just now
                self._connect(self._outgoing[target])
        deadline = self.listener.deadline()
        dues = [*self._again.values(), *([] if deadline is None else [deadline])]
        if dues:
            due = max(0.0, min(dues) - now)
            timeout = due if timeout is None else min(timeout, due)
        readable: list[int] = []
        for key, mask in self._selector.select(timeout):
            if key.data is None:
                readable.append(key.fd)
            else:
                key.data(mask)
        self.listener.tidy(time.monotonic())
        return readable

    @property
    def unsent(self) -> int:
        """Frames that nobody has acknowledged."""
        return sum(len(out.frames) for out in self._outgoing.values())

    def hurry(self) -> None:
        """Somebody waits for `unsent` to become 0."""
        for out in self._outgoing.values():
            out.hurry()

    def post(self, target: Address, body: bytes, told: Told | None = None) -> None:
        """Send a body, and tell what became of it; in a later turn, unless it is dropped here."""
        if not self._unreachable.admits(target[0], time.monotonic()):
            self.throttled_log.add("dropped a frame", f"{target[0]} does not answer")
            _tell([Frame(0, b"", told)], None)
            return
        out = self._outgoing.get(target)
        if out is None:
            out = self._outgoing[target] = Outgoing(self._identity, target)
            self._again[target] = 0.0
        if len(out.frames) >= MAX_WAITING:
            self.throttled_log.add("lost a frame", f"{MAX_WAITING} wait for {target}")
            _tell([Frame(0, b"", told)], None)
            return
        out.frames.append(Frame(next(self._numbers), body, told))
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
        was_greeted = out.greeted
        try:
            done = out.read() if mask & READ else []
        except (OSError, Refused) as problem:
            self._lose(out, problem)
            return
        if out.greeted and not was_greeted:
            self._unreachable.find(out.target[0])
            mask |= WRITE
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
        if isinstance(problem, OSError) and problem.errno in _AWAY:
            self._lose_host(out.target[0], problem)
            return
        self._disconnect(out)
        if isinstance(problem, Refused):
            self.throttled_log.add("refused an answer", f"{problem}, by {out.target}")
        given_up: list[Frame] = []
        nobody = isinstance(problem, ConnectionRefusedError)
        if nobody:
            given_up = [*out.frames]
        elif out.frames:
            out.losses += 1
            if out.losses == MAX_LOSSES:  # the first may be what its receiver cannot bear
                self.throttled_log.add("lost a frame", f"to {out.target}: {problem}")
                given_up, out.losses = [out.frames.popleft()], 0
        if nobody or not out.frames:
            del self._outgoing[out.target]
        else:
            self._again[out.target] = time.monotonic() + (BACKOFF if out.losses != 1 else 0.0)
        _tell(given_up, False if nobody else None)

    def _lose_host(self, host: str, problem: Exception) -> None:
        """Nothing that waits for any endpoint of a host is kept: who needs it says it again."""
        self._unreachable.lose(host, time.monotonic())
        lost = [out for out in self._outgoing.values() if out.target[0] == host]
        for out in lost:
            self._disconnect(out)
            self._again.pop(out.target, None)
            del self._outgoing[out.target]
        given_up = [frame for out in lost for frame in out.frames]
        if given_up:
            self.throttled_log.add("lost a frame", f"to {host}: {problem}", len(given_up))
        _tell(given_up, None)

    def _disconnect(self, out: Outgoing) -> None:
        if out.socket is not None:
            with suppress(KeyError):
                self._selector.unregister(out.socket)
        out.close()


def _tell(frames: list[Frame], arrived: bool | None) -> None:
    for frame in frames:
        if frame.told is not None:
            frame.told(arrived)
