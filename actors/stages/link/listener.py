"""The side of an endpoint that listens: who comes in, and what they bring."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import OrderedDict
from contextlib import suppress
from functools import partial

from actors.log import ThrottledLog
from actors.logic.supervision.peers import UnauthenticatedPeers
from actors.stages.link.session import Address, Identity, Refused
from actors.stages.link.sockets import Incoming

MAX_STRANGERS = 256  #: connections that have not yet sent an authentic frame
MAX_OF_ONE_ORIGIN = 128  #: … from one address
STRANGER_SECONDS = 10.0  #: for the handshake and the first header
MAX_SENDERS = 4096  #: endpoints whose last number is remembered
MOST_ACCEPTS = 16  #: in one pass
MOST_FRAMES = 16  #: read from one socket in one pass
REFUSED_RETRY_S = (
    1.0  #: seconds in which nobody is let in where there is no descriptor, or no memory, for it
)

_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

READ = selectors.EVENT_READ


class Listener:
    """All connections that others have made to one endpoint."""

    def __init__(
        self,
        listener: socket.socket,
        identity: Identity,
        selector: selectors.BaseSelector,
        throttled_log: ThrottledLog,
    ) -> None:
        listener.setblocking(False)
        self.received: list[tuple[Address, bytes]] = []  #: from whom, what; as it came
        self.accepted = False  #: somebody has connected since this was last looked at
        self._listener = listener
        self._opens: float | None = None  # again, after a pause
        self._identity = identity
        self._selector = selector
        self._throttled_log = throttled_log
        self._inside: set[Incoming] = set()
        self._unauthenticated = UnauthenticatedPeers[Incoming](
            MAX_STRANGERS, MAX_OF_ONE_ORIGIN, STRANGER_SECONDS
        )
        self._last: OrderedDict[bytes, int] = OrderedDict()  # the highest number of each sender
        selector.register(listener, READ, self._accept)

    def close(self) -> None:
        for inc in self._inside:
            inc.socket.close()

    def deadline(self) -> float | None:
        """When `tidy` has work next."""
        dues = (self._unauthenticated.deadline(), self._opens)
        return min((due for due in dues if due is not None), default=None)

    def tidy(self, now: float) -> None:
        """Have those go who prove nothing, and let in who waits after a pause."""
        if self._opens is not None and now >= self._opens:
            self._opens = None
            self._selector.register(self._listener, READ, self._accept)
        for inc in self._unauthenticated.overdue(now):
            self._refuse(inc, "says nothing of use")

    def _accept(self, _mask: int) -> None:
        self.accepted = True
        for _ in range(MOST_ACCEPTS):
            try:
                sock, _ = self._listener.accept()
            except OSError as problem:
                if problem.errno != errno.EAGAIN:
                    self._throttled_log.add("could not accept a connection", problem)
                if problem.errno in _NO_ROOM:  # it stays readable: the loop would spin
                    self._selector.unregister(self._listener)
                    self._opens = time.monotonic() + REFUSED_RETRY_S
                return
            self._welcome(Incoming(sock, self._identity))

    def _welcome(self, inc: Incoming) -> None:
        self._inside.add(inc)
        self._selector.register(inc.socket, READ, partial(self._receive, inc))
        if surplus := self._unauthenticated.add(inc, inc.origin, time.monotonic()):
            self._refuse(surplus, "too many prove nothing")

    def _receive(self, inc: Incoming, _mask: int) -> None:
        if inc not in self._inside:
            return  # let go of in this very pass
        problem: Exception | None = None
        read = False
        try:
            for _ in range(MOST_FRAMES):
                frame = inc.read()
                if inc.known:
                    self._unauthenticated.discard(inc)
                if frame is None:
                    break
                read = True
                self._take(inc, *frame)
        except (OSError, Refused) as error:
            problem = error
        if read:
            with suppress(OSError):  # gone, or it reads no answers: the next says it again
                inc.socket.send(inc.session.answer())
        if isinstance(problem, Refused):
            self._refuse(inc, str(problem))
        elif problem is not None:
            self._let_go(inc)

    def _take(self, inc: Incoming, number: int, body: bytes) -> None:
        """A frame whose answer was lost comes again, on another connection."""
        sender = inc.session.sender
        if number <= self._last.get(sender, 0):
            self._throttled_log.add("dropped a repeated frame", f"from {inc.origin}")
            return
        self._last[sender] = number
        self._last.move_to_end(sender)
        if len(self._last) > MAX_SENDERS:
            self._last.popitem(last=False)
        self.received.append((inc.session.address, body))

    def _refuse(self, inc: Incoming, why: str) -> None:
        self._throttled_log.add("refused a connection", f"{why}, from {inc.origin}")
        self._let_go(inc)

    def _let_go(self, inc: Incoming) -> None:
        self._selector.unregister(inc.socket)
        self._unauthenticated.discard(inc)
        self._inside.discard(inc)
        inc.socket.close()
