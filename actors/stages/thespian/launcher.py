"""The launcher: it starts an actor system, talks to its top actor, and ends it."""

from __future__ import annotations

import gc
import secrets
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from errno import EADDRINUSE
from threading import Event, Thread
from typing import Any

from thespian.actors import ActorSystem, ActorSystemException
from thespian.system.messages.admin import SystemShutdown
from thespian.system.systemBase import ExternalOpsToActors
from thespian.system.transport import ExternalInterfaceTransportInit

from actors.errors import CallboardError, ConfigurationError
from actors.log import own_logger
from actors.plan.network import Network, host_address
from actors.plan.plan import NodePlan, Plan
from actors.roles.protocol import ActorMessage, Configure
from actors.stages import LOOPBACK
from actors.stages.link.session import rehearse
from actors.stages.thespian import processes
from actors.stages.thespian.actor_process import ActorProcess, Envelope
from actors.stages.thespian.base import SystemBase
from actors.stages.thespian.roles import preload
from actors.stages.thespian.transport import address_of, transport_of

LAUNCHER = "launcher"
ROOT = "root#1"
_PORTS_TO_TRY = 3

NOT_STARTED = (
    "the actor system did not start: its first process did not answer in time. What the app's "
    "module does at import may keep it from that, for example gevent's monkey.patch_all()"
)


class Launcher:
    """Starts a system whose top actor plays `plan`, and holds its end.

    The top actor is the root, or, in a system that joins others, their host here. Without
    a network the system is on loopback. Raises `ConfigurationError` where the address of the
    admin cannot be had.
    """

    def __init__(
        self, plan: Plan | NodePlan, admin_port: int = 0, network: Network | None = None
    ) -> None:
        pipelines = plan.pipelines if isinstance(plan, Plan) else ()
        preload({pipeline.kind for pipeline in pipelines} | {"runner", "journal"})
        processes.reuse_memory()
        rehearse()
        gc.freeze()  # a collection writes to every object, and pages that all share become each's
        self.network = network or Network(LOOPBACK, admin_port, (secrets.token_bytes(32),))
        role = "host" if self.network.leaders else "root"
        self.top = f"{role}#{_unique()}" if network else ROOT
        self._base = _start(self.network, self.top)
        self._admin = self._base.admin
        self._leaders = Leaders(self.network.leaders)
        assert self._admin.pid is not None
        self.session = self._admin.pid  #: the admin's, and that of all processes of the system
        self.admin_port: int = self._base.adminAddr.addressDetails.sockname[1]
        try:
            self._root = ActorSystem(self._base, transientUnique=True).createActor(
                ActorProcess, {"name": self.top, "role": role}
            )
        except ActorSystemException as problem:
            self.shutdown(0.0)
            cause = str(problem) or type(problem).__name__
            raise CallboardError(f"{NOT_STARTED}: {cause}") from problem
        except BaseException:
            self.shutdown(0.0)
            raise
        self._configure = Configure(plan, role, supervisor=LAUNCHER, leaders=self.network.leaders)
        self.send(self._configure)

    def send(self, message: ActorMessage) -> None:
        """Send to the top actor; it leaves with the next `receive`."""
        envelope = Envelope(self.top, LAUNCHER, message, self._leaders.addresses())
        self._base._tx_to_actor(self._root, envelope)

    def receive(self, seconds: float, watch: Iterable[int] = ()) -> ActorMessage | None:
        """What the top actor says next.

        None when time is up, when a watched descriptor is readable, or when the system died.
        """
        if self._leaders.moved():
            self.send(self._configure)
        seconds = min(seconds, LOOKUP_INTERVAL_S)
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
        self._leaders.close()
        survivors = processes.end(self.session, 2.0)
        self._admin.join(1.0)
        self._base.transport.close()
        return survivors


class InProcess:
    """The same on simpleSystemBase: all actors in the caller's thread, while it receives."""

    def __init__(self, plan: Plan) -> None:
        self._system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
        self._root = self._system.createActor(ActorProcess, {"name": ROOT, "role": "root"})
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


def ask(network: Network, message: ActorMessage, seconds: float) -> ActorMessage | None:
    """Ask the top actor of a system, as a visitor who holds the key; starts nothing."""
    transport = transport_of(network)(ExternalInterfaceTransportInit(), {}, None, None)
    try:
        admin = address_of(network.port, network.host)
        answer = ExternalOpsToActors(admin, transport).ask(
            admin, Envelope("", f"visitor#{_unique()}", message), timedelta(seconds=seconds)
        )
        return answer.message if isinstance(answer, Envelope) else None
    finally:
        transport.close()


def _unique() -> str:
    """A word that no other start, here or on another host, has in its actors' names."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


def _start(network: Network, top: str) -> SystemBase:
    if network.port:
        _check(network)
        return SystemBase(network, top)
    for attempts_left in reversed(range(_PORTS_TO_TRY)):
        try:
            return SystemBase(replace(network, port=_free_port(network.host)), top)
        except ActorSystemException:  # somebody took the port between our look and our bind
            if not attempts_left:
                raise
    raise CallboardError("no admin port could be had")


def _check(network: Network) -> None:
    host, port = network.host, network.port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            cause = "the port is in use" if problem.errno == EADDRINUSE else problem.strerror
            setting = f"--listen {host}:{port}" if network.key_file else f"--admin-port {port}"
            raise ConfigurationError(f"{setting}: {cause}") from None


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _content(received: Any) -> ActorMessage | None:
    is_ours = isinstance(received, Envelope) and received.to == LAUNCHER
    return received.message if is_ours else None


log = own_logger("actors.host")

LOOKUP_INTERVAL_S = 10.0  #: between two look-ups: a leader that was started anew has moved


class Leaders:
    """The admins of first hosts, by the HOST:PORT that was given for each."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._told = self._found = self._look_up()
        self._closed = Event()
        if names:  # in a thread, because a resolver may take seconds
            Thread(target=self._keep_looking, name="leaders", daemon=True).start()

    def addresses(self) -> tuple[tuple[str, Any], ...]:
        """The names with their addresses, as far as they are known."""
        self._told = self._found
        return tuple((name, address_of(port, host)) for name, (host, port) in self._told.items())

    def moved(self) -> bool:
        """Whether `addresses` would say something new."""
        return self._found != self._told

    def close(self) -> None:
        self._closed.set()

    def _keep_looking(self) -> None:
        while not self._closed.wait(LOOKUP_INTERVAL_S):
            try:
                self._found = {**self._found, **self._look_up()}
            except Exception as error:  # of threads or memory, say: there may be more soon
                log.warning("hosts to join cannot be looked up: %r; tried again", error)

    def _look_up(self) -> dict[str, tuple[str, int]]:
        found = {}
        for name in self._names:
            host, _, port = name.rpartition(":")
            try:
                found[name] = (host_address(host), int(port))
            except (OSError, UnicodeError):
                continue  # it may come; until then its actors cannot be sent to
        return found
