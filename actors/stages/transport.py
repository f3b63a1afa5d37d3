"""Thespian's TCP transport, on loopback and with every frame authenticated.

Sockets carry one direction each: the side that connected sends frames, the side that
accepted answers each with an acknowledgement of fixed size. Thespian itself sends both
ways on one socket, which stalls for half a minute where both begin at once.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import socket
import time
from collections import Counter
from datetime import timedelta
from typing import Any, ClassVar

from thespian.actors import ActorAddress
from thespian.system.transport import ReceiveEnvelope, SendStatus
from thespian.system.transport.IPBase import IPActorAddress, TCPv4ActorAddress
from thespian.system.transport.TCPTransport import (
    ExternalTransportCopy,
    TCPIncomingPersistent,
    TCPTransport,
)

from actors.network import Network
from actors.stages import LOOPBACK
from actors.stages.seal import HEADER_SIZE, MAC_SIZE, Header, Refused, Seal, mac_of

# Thespian binds to all interfaces whatever address it advertises.
IPActorAddress.bindArgs = property(lambda self: ((self.sockname[0], self.bindname[1]),))

log = logging.getLogger(__name__)

MAX_STRANGERS = 256  #: connections that have not yet sent an authentic frame
STRANGER_SECONDS = 30.0
_MAX_READ = 1024 * 1024


class Tally:
    """Counts what should not happen, and logs each kind at most once a second."""

    def __init__(self, logger: logging.Logger) -> None:
        self.counts: Counter[str] = Counter()
        self._log = logger
        self._last: dict[str, float] = {}

    def add(self, what: str, detail: object = "") -> None:
        self.counts[what] += 1
        now = time.monotonic()
        if now - self._last.get(what, float("-inf")) >= 1.0:
            self._last[what] = now
            self._log.warning("%s: %s (%d so far)", what, detail, self.counts[what])


class Incoming(TCPIncomingPersistent):  # type: ignore[misc]
    """An accepted connection: frames come in, acknowledgements go out."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(ActorAddress(None), sock)
        try:
            self.origin = sock.getpeername()
        except OSError:  # Thespian wakes itself with connections that are gone at once
            self.origin = None
        self.known = False  #: has sent an authentic frame
        self.deadline = time.monotonic() + STRANGER_SECONDS
        self.begin()

    def begin(self) -> None:
        self.header: Header | None = None
        self._buffer = bytearray(HEADER_SIZE)
        self._filled = 0

    def take(self, header: Header) -> None:
        """The header is authentic: make room for the body."""
        self.header, self._buffer, self._filled = header, bytearray(header.length), 0

    def read(self) -> bool | None:
        """Read on; whether the header or body is complete, None where the peer is gone."""
        if self._filled < len(self._buffer):
            view = memoryview(self._buffer)[self._filled : self._filled + _MAX_READ]
            try:
                count = self.socket.recv_into(view)
            except BlockingIOError:
                return False
            except OSError:
                return None
            if not count:
                return None
            self._filled += count
        return self._filled == len(self._buffer)

    @property
    def content(self) -> bytearray:
        return self._buffer

    def delay(self, current_time: object = None) -> timedelta | None:
        """How long Thespian's loop may sleep on our account; None: for ever."""
        if self.known:
            return None
        return timedelta(seconds=max(0.001, self.deadline - time.monotonic()))

    def backoffPause(self, startPausing: bool = False) -> timedelta:
        return timedelta(0)


class LoopbackTransport(TCPTransport):  # type: ignore[misc]
    """One endpoint: a listening socket on loopback and a seal of its own."""

    key: ClassVar[bytes]
    host: ClassVar[str]

    def __init__(self, *args: Any) -> None:
        os.environ["THESPIAN_BASE_IPADDR"] = self.host  # for addresses made without a host
        super().__init__(*args)
        self.seal = Seal(self.key)
        self.tally = Tally(log)
        self.port: int = self.socket.getsockname()[1]

    def external_transport_clone(self) -> LoopbackTransport:
        return type(self)(ExternalTransportCopy(), self._adminAddr, self.txOnly, False)

    def close(self) -> None:
        # Thespian leaves most sockets to the garbage collector.
        mine = self.__dict__
        sockets = [mine["socket"]] if "socket" in mine else []
        sockets += [each.socket for each in mine.get("_transmitIntents", {}).values()]
        sockets += [each.socket for each in mine.pop("_openSockets", {}).values()]
        super().close()
        for each in sockets:
            each.close()

    # ── sending ────────────────────────────────────────────────────────────────

    def serializer(self, intent: Any) -> memoryview:
        body = pickle.dumps((self.myAddress, intent.message), pickle.HIGHEST_PROTOCOL)
        port = intent.targetAddr.addressDetails.sockname[1]
        return memoryview(self.seal.seal(port, body))  # a view: Thespian slices it at each write

    def _next_XMIT_3(self, intent: Any) -> bool:
        intent.ackbuf = b""
        intent.stage = self._XMITStepWaitForAck
        return True

    def _next_XMIT_4(self, intent: Any) -> bool:
        try:
            received = intent.socket.recv(MAC_SIZE - len(intent.ackbuf))
        except BlockingIOError:
            return True
        except OSError:
            received = b""
        intent.ackbuf += received
        if received and len(intent.ackbuf) < MAC_SIZE:
            return True
        if intent.ackbuf == self.seal.acknowledgement(mac_of(intent.serMsg)):
            intent.result = SendStatus.Sent
            intent.stage = self._XMITStepFinishCleanup
        else:
            if received:
                self.tally.add("refused an acknowledgement", intent.targetAddr)
            intent.backoffPause(True)
            intent.stage = self._XMITStepRetry
        return bool(self._nextTransmitStep(intent))

    # ── receiving ──────────────────────────────────────────────────────────────

    def _acceptNewIncoming(self) -> None:
        super()._acceptNewIncoming()
        for fd, each in list(self._incomingSockets.items()):
            if not isinstance(each, Incoming):
                self._incomingSockets[fd] = Incoming(each.socket)
        self._limit_strangers()

    def _limit_strangers(self) -> None:
        strangers = [each for each in self._incomingSockets.values() if not each.known]
        if len(strangers) > MAX_STRANGERS:
            oldest = min(strangers, key=lambda each: each.deadline)
            del self._incomingSockets[oldest.socket.fileno()]
            self._refuse(oldest, f"more than {MAX_STRANGERS} connections say nothing")

    def _handlePossibleIncoming(
        self, inc: Any, fileno: int, closed: bool = False, has_exclusive_flag: bool = False
    ) -> Any:
        if not isinstance(inc, Incoming) or closed:
            inc.close()  # an idle socket of ours on which the peer hung up
            return None
        if fileno == inc.socket.fileno():
            return self._read(inc, has_exclusive_flag)
        if not inc.known and time.monotonic() > inc.deadline:
            self._refuse(inc, "said nothing for too long")
            return None
        return inc

    def _read(self, inc: Incoming, has_exclusive_flag: bool) -> Incoming | None:
        while complete := inc.read():
            try:
                if inc.header is None:
                    inc.take(self.seal.header(inc.content, self.port))
                else:
                    self._deliver(inc, inc.header, has_exclusive_flag)
                    return inc
            except Refused as refusal:
                self._refuse(inc, str(refusal))
                return None
            except Exception as problem:
                # Authentic, yet not to be unpickled here: a class that this process lacks.
                self.tally.add("lost a frame", repr(problem))
                inc.close()
                return None
        if complete is None:
            inc.close()
            return None
        return inc

    def _deliver(self, inc: Incoming, header: Header, has_exclusive_flag: bool) -> None:
        new = self.seal.accept(header, inc.content)
        envelope = ReceiveEnvelope(*pickle.loads(inc.content)) if new else None
        inc.begin()
        try:
            inc.socket.send(self.seal.acknowledgement(header.mac))
        except OSError as problem:
            if problem.errno not in (errno.ECONNRESET, errno.EPIPE):
                raise
        if envelope is None:
            self.tally.add("dropped a repeated frame", f"from {inc.origin}")
            return
        inc.known = True
        self._processReceivedEnvelope(envelope, has_exclusive_flag=has_exclusive_flag)

    def _refuse(self, inc: Incoming, why: str) -> None:
        self.tally.add("refused a connection", f"{why}, from {inc.origin}")
        inc.close()


def transport_of(network: Network) -> type[LoopbackTransport]:
    """The transport of one system; forks inherit the class, and the key with it."""
    return type("Transport", (LoopbackTransport,), {"key": network.keys[0], "host": network.host})


def address_of(port: int, host: str = LOOPBACK) -> Any:
    """The address of the endpoint that listens on a port of a host."""
    return ActorAddress(TCPv4ActorAddress(host, port, external=True))
