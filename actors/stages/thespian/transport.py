"""Thespian's TCP transport, sealed and with a loop of its own.

Thespian's own loop builds a selector and walks all sockets on each pass, has one message
under way to each target, and a sender waits for whoever it sends to: a quarter of a
millisecond a message. What travels here, and how, is `actors.stages.link.exchange`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any, ClassVar

from thespian.actors import ActorAddress, WatchMessage
from thespian.system.addressManager import CannotPickleAddress
from thespian.system.transport import (
    ReceiveEnvelope,
    SendStatus,
    Thespian__Run_Expired,
    Thespian__Run_HandlerResult,
    Thespian__Run_Terminated,
    Thespian__UpdateWork,
    TransmitOnly,
)
from thespian.system.transport.IPBase import IPActorAddress, TCPv4ActorAddress
from thespian.system.transport.TCPTransport import ExternalTransportCopy, TCPTransport

from actors.plan.network import Network
from actors.stages import LOOPBACK
from actors.stages.link.exchange import Exchange
from actors.stages.link.session import Identity

# Thespian binds to all interfaces whatever address it advertises.
IPActorAddress.bindArgs = property(lambda self: ((self.sockname[0], self.bindname[1]),))

#: Of a frame, in words of memory: CPython gives one of this size 128 KiB, half of which is left.
_ROOM = 8000

_STATUS = {True: SendStatus.Sent, False: SendStatus.DeadTarget, None: SendStatus.Failed}


def _with_room(loop: Callable[..., Any]) -> Callable[..., Any]:
    """The same with room on the stack for all that it calls.

    CPython maps 16 KiB more when a call crosses the end of its stack, and unmaps them as it
    returns: a loop that stands near the end pays that several times in each pass.
    """
    assert isinstance(loop, FunctionType)
    code = loop.__code__
    loop.__code__ = code.replace(co_stacksize=max(_ROOM, code.co_stacksize))
    return loop


class SealedTransport(TCPTransport):  # type: ignore[misc]
    """One endpoint: a socket that listens at an address of its host, and all connections."""

    network: ClassVar[Network]

    def __init__(self, *args: Any) -> None:
        os.environ["THESPIAN_BASE_IPADDR"] = self.network.host  # for addresses made without a host
        super().__init__(*args)
        address = self.socket.getsockname()
        self.exchange = Exchange(self.socket, Identity(self.network.keys, address))
        self.throttled_log = self.exchange.throttled_log
        self.port: int = address[1]
        #: Is offered each message before Thespian: whether it takes it.
        self.hear: Callable[[Any, Any], bool] | None = None

    def external_transport_clone(self) -> SealedTransport:
        return type(self)(ExternalTransportCopy(), self._adminAddr, self.txOnly, False)

    def close(self) -> None:
        mine = self.__dict__
        if "exchange" in mine:
            mine.pop("exchange").close()
        if "socket" in mine:
            mine["socket"].close()
        super().close()

    def childResetFileNumList(self) -> list[int]:
        return self.exchange.filenos()

    def set_watch(self, watchlist: list[int]) -> None:
        self.exchange.watch(watchlist)

    def scheduleTransmit(
        self, addressManager: Any, transmitIntent: Any, has_exclusive_flag: bool = False
    ) -> None:
        target, message = transmitIntent.targetAddr, transmitIntent.message
        if addressManager is not None:
            target, message = addressManager.prepMessageSend(target, message)
            if message is SendStatus.DeadTarget:
                transmitIntent.tx_done(SendStatus.Sent)  # there is nobody left to tell
                return
            if target is None:
                raise CannotPickleAddress(transmitIntent.targetAddr)
            transmitIntent.changeTargetAddr(target)
            transmitIntent.changeMessage(message)
        if isinstance(message, Thespian__UpdateWork):
            transmitIntent.tx_done(SendStatus.Sent)
        elif target == self.myAddress:
            self._incomingEnvelopes.append(ReceiveEnvelope(target, message))
            transmitIntent.tx_done(SendStatus.Sent)
        else:
            self.post(target, message, lambda how: transmitIntent.tx_done(_STATUS[how]))

    def post(
        self, target: Any, message: Any, told: Callable[[bool | None], object] | None = None
    ) -> None:
        """Send a message to the address of another process."""
        body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self.exchange.post(target.addressDetails.sockname, body, told)

    def addWakeup(self, timePeriod: Any, payload: Any) -> None:
        """There is one: it takes the place of the one before."""
        self._pendingWakeups.clear()
        super().addWakeup(timePeriod, payload)

    @_with_room
    def _runWithExpiry(self, incomingHandler: Any) -> Any:
        """Hand over what comes, until time is up, the handler or somebody else ends it.

        With `TransmitOnly` until all is sent.
        """
        self.__dict__.pop("_aborting_run", None)
        only_send = incomingHandler is TransmitOnly or isinstance(incomingHandler, TransmitOnly)
        if only_send:
            self.set_watch([])
        while True:
            while self._incomingEnvelopes and not only_send:
                envelope = self._incomingEnvelopes.pop(0)
                if self.hear is not None and self.hear(envelope.message, envelope.sender):
                    continue
                if incomingHandler is None:
                    return envelope
                result = Thespian__Run_HandlerResult(incomingHandler(envelope))
                if not result:
                    return result
            drains = getattr(self, "_aborting_run", None)
            if drains is not None and not (drains and self.exchange.unsent):
                return Thespian__Run_Terminated()
            if only_send and not self.exchange.unsent:
                return 0
            if only_send or drains:
                self.exchange.hurry()
            left = self.run_time.view().remainingSeconds()
            if left is not None and left <= 0.0:
                return Thespian__Run_Expired()
            self._turn(left)

    def _turn(self, timeout: float | None) -> None:
        readable = self.exchange.turn(timeout)
        listener = self.exchange.listener
        if listener.accepted:  # this may have been a signal
            listener.accepted = False
            self._check_indicators()
        received, listener.received = listener.received, []
        for origin, body in received:
            try:
                message = pickle.loads(body)
            except Exception as problem:
                # Authentic, yet not to be unpickled here: a class that this process lacks.
                self.throttled_log.add("lost a frame", repr(problem))
            else:
                self._processReceivedEnvelope(ReceiveEnvelope(_known(*origin), message))
        if readable:
            self._incomingEnvelopes.append(ReceiveEnvelope(self.myAddress, WatchMessage(readable)))


def transport_of(network: Network) -> type[SealedTransport]:
    """The transport of one system; forks inherit the class, and the key with it."""
    return type("Transport", (SealedTransport,), {"network": network})


def address_of(port: int, host: str = LOOPBACK) -> Any:
    """The address of the endpoint that listens on a port of a host."""
    return ActorAddress(TCPv4ActorAddress(host, port, external=True))


@lru_cache(1024)
def _known(host: str, port: int) -> Any:
    return address_of(port, host)
