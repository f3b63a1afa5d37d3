"""Starting an actor system, and talking to its root from outside."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from thespian.actors import ActorSystem, ActorSystemException
from thespian.system.messages.admin import SystemShutdown
from thespian.system.systemBase import ExternalOpsToActors
from thespian.system.transport import ExternalInterfaceTransportInit

from actors.errors import CallboardError, ConfigurationError
from actors.plan import Plan
from actors.protocol import ActorMessage, Configure
from actors.stages import LOOPBACK, processes
from actors.stages.base import SystemBase
from actors.stages.roles import preload
from actors.stages.thespian import Envelope, Host
from actors.stages.transport import address_of, sealed_with

LAUNCHER = "launcher"
ROOT = "root#1"
_ROOT_ROLE = {"name": ROOT, "role": "root"}
_PORTS_TO_TRY = 3


class Launcher:
    """Starts a system whose root plays `plan`, and holds its end.

    Raises `ConfigurationError` where the admin port is taken.
    """

    def __init__(self, plan: Plan, admin_port: int = 0) -> None:
        preload({unit.kind for unit in plan.units} | {"runner"})
        self.key = secrets.token_bytes(32)
        self._base = _start(admin_port, self.key)
        self._admin = self._base.admin
        assert self._admin.pid is not None
        self.session = self._admin.pid  #: the admin's, and that of all processes of the system
        self.admin_port: int = self._base.adminAddr.addressDetails.sockname[1]
        try:
            self._root = ActorSystem(self._base, transientUnique=True).createActor(Host, _ROOT_ROLE)
        except BaseException:
            self.shutdown(0.0)
            raise
        self.root_port: int = self._root.addressDetails.sockname[1]
        self.send(Configure(plan, role="root", supervisor=LAUNCHER))

    def send(self, message: ActorMessage) -> None:
        """Send to the root; it leaves with the next `receive`."""
        self._base._tx_to_actor(self._root, Envelope(ROOT, LAUNCHER, message))

    def receive(self, seconds: float, watch: Iterable[int] = ()) -> ActorMessage | None:
        """What the root says next.

        None when time is up, when a watched descriptor is readable, or when the system died.
        """
        transport = self._base.transport
        transport.set_watch([self._admin.sentinel, *watch])
        try:
            received = self._base._run_transport(timedelta(seconds=seconds))
            return _content(getattr(received, "message", None))
        finally:
            transport.set_watch([])

    def is_alive(self) -> bool:
        return self._admin.is_alive()

    def shutdown(self, seconds: float) -> list[int]:
        """End every process, by force once the time is up; return who could not be ended."""
        deadline = time.monotonic() + seconds
        if seconds > 0 and self.is_alive():
            self._base._tx_to_admin(SystemShutdown())
            while self.is_alive() and (left := deadline - time.monotonic()) > 0:
                self.receive(left)
        survivors = processes.end(self.session, 2.0)
        self._admin.join(1.0)
        self._base.transport.close()
        return survivors


class InProcess:
    """The same on simpleSystemBase: all actors in the caller's thread, while it receives."""

    def __init__(self, plan: Plan) -> None:
        self._system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
        self._root = self._system.createActor(Host, _ROOT_ROLE)
        self.send(Configure(plan, role="root", supervisor=LAUNCHER))

    def send(self, message: ActorMessage) -> None:
        self._system.tell(self._root, Envelope(ROOT, LAUNCHER, message))

    def receive(self, seconds: float, watch: Iterable[int] = ()) -> ActorMessage | None:
        return _content(self._system.listen(timedelta(seconds=seconds)))

    def is_alive(self) -> bool:
        return True

    def shutdown(self, seconds: float) -> list[int]:
        self._system.shutdown()
        return []


def ask(port: int, key: bytes, message: ActorMessage, seconds: float) -> ActorMessage | None:
    """Ask the root that listens on `port`, as a stranger who holds the key; starts nothing."""
    transport = sealed_with(key)(ExternalInterfaceTransportInit(), {}, None, None)
    try:
        root = address_of(port)
        visitor = f"visitor-{os.getpid()}#{secrets.token_hex(4)}"
        answer = ExternalOpsToActors(root, transport).ask(
            root, Envelope(ROOT, visitor, message), timedelta(seconds=seconds)
        )
        return answer.message if isinstance(answer, Envelope) else None
    finally:
        transport.close()


def _start(admin_port: int, key: bytes) -> SystemBase:
    if admin_port:
        if not _is_free(admin_port):
            raise ConfigurationError(f"--admin-port {admin_port}: the port is in use")
        return SystemBase(admin_port, key)
    for attempts_left in reversed(range(_PORTS_TO_TRY)):
        try:
            return SystemBase(_free_port(), key)
        except ActorSystemException:  # somebody took the port between our look and our bind
            if not attempts_left:
                raise
    raise CallboardError("no admin port could be had")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _content(received: Any) -> ActorMessage | None:
    is_ours = isinstance(received, Envelope) and received.to == LAUNCHER
    return received.message if is_ours else None
