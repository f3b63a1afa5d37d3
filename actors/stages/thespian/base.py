"""Thespian's system base and admin, tied to the process that starts them.

Thespian detaches its admin from the launcher and logs through a process of its own;
both then outlive a launcher that is killed. Here the admin is the launcher's child,
leads the session that holds all processes of the system, goes when the root actor
goes, and needs no logger: actors write to the launcher's stderr themselves.
"""

from __future__ import annotations

import logging
import os
import signal
from datetime import timedelta
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any

from thespian.actors import InvalidActorAddress
from thespian.system import actorManager, multiprocCommon
from thespian.system.messages.multiproc import EndpointConnected
from thespian.system.multiprocCommon import MultiProcAdmin, detach_child, multiprocessCommon
from thespian.system.transport import ReceiveEnvelope, TransmitIntent

from actors.plan.network import Network
from actors.stages.thespian.actor_process import Envelope
from actors.stages.thespian.processes import die_with_parent, show_as
from actors.stages.thespian.transport import SealedTransport, transport_of

# In each process Thespian searches the path for a module that could name it, and asks in three
# ways what an actor is made with: pages that all could share become each's.
multiprocCommon.setProcName = lambda _name, _address: None


class _Everything(actorManager.withPossibleInitArgs):  # type: ignore[misc]
    """Makes an actor: ours all take what there is."""

    def create(self, actor: type) -> Any:
        return actor(**self.kwargs)


actorManager.withPossibleInitArgs = _Everything

STARTUP = timedelta(seconds=5)
TOP = "Callboard Top"  #: the capability that says the name of the system's top actor


class Admin(MultiProcAdmin):  # type: ignore[misc]
    """Thespian's admin without its logger; its one child is the system's top actor."""

    def handleIncoming(self, envelope: Any) -> Any:
        if not isinstance(envelope.message, Envelope):
            return super().handleIncoming(envelope)
        for child in self.childAddresses:
            self._send_intent(TransmitIntent(child, self._for_top(envelope)))
        return True

    def _for_top(self, envelope: Any) -> Envelope:
        """Others know the admin's address alone; the top actor is to answer them itself."""
        message: Envelope = envelope.message
        introduced = (*message.addresses, (message.sender, envelope.sender))
        return message._replace(to=self.capabilities[TOP], addresses=introduced)

    def h_LogRecord(self, envelope: Any) -> bool:
        logging.getLogger(envelope.message.name).handle(envelope.message)
        return True

    def _handleChildExited(self, child: Any) -> Any:
        carry_on = super()._handleChildExited(child)
        if not self.isShuttingDown() and not self.childAddresses:
            self.shutdown_completed = True  # there is no system without its root
            self.transport.abort_run()
            return False
        return carry_on

    def _cleanupAdmin(self, finish_cleanup: Any) -> None:
        finish_cleanup()


def _start_admin(
    starter: Any,
    endpoint: Any,
    transport_class: type[SealedTransport],
    address: Any,
    capabilities: dict[str, Any],
    context: Any,
) -> None:
    os.setsid()
    die_with_parent()
    show_as("callboard: admin")
    logging.getLogger().addFilter(_is_ours)
    transport = transport_class(endpoint)
    admin = Admin(transport, address, capabilities, None, context)
    admin.addrOfStarter = starter
    admin.asLogger = transport.myAddress
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # the launcher's to obey
    signal.signal(signal.SIGCHLD, admin.signalChildDied)
    # An admin that only sends would answer nobody.
    transport.enableRXPauseFlowControl(False)
    transport.scheduleTransmit(None, TransmitIntent(starter, EndpointConnected(0)))
    admin.run()


def _is_ours(record: logging.LogRecord) -> bool:
    """Thespian's admin greets and says goodbye through the user's root logger."""
    return record.module != "adminCore"


class SystemBase(multiprocessCommon):  # type: ignore[misc]
    """`multiprocTCPBase` with our transport and our admin."""

    admin: BaseProcess

    def __init__(self, network: Network, top: str) -> None:
        self.transportType = transport_of(network)
        capabilities = {
            "Admin Port": network.port,
            "Thespian ActorSystem Name": "multiprocTCPBase",
            "Thespian ActorSystem Version": 2,
            "Thespian Watch Supported": True,
            TOP: top,
        }
        super().__init__(SimpleNamespace(capabilities=capabilities))

    def _startAdmin(
        self, address: Any, starter: Any, capabilities: dict[str, Any], _log_defs: Any
    ) -> None:
        endpoint = self.transport.prepEndpoint(address, capabilities)
        self.admin = self.mpcontext.Process(
            target=_start_admin,
            args=(starter, endpoint, type(self.transport), address, capabilities, self.mpcontext),
            name="callboard-admin",
        )
        self.admin.start()
        detach_child(self.admin)  # or the interpreter waits for it at exit
        self.transport.set_watch([self.admin.sentinel])
        response = self.transport.run(None, STARTUP)
        self.transport.set_watch([])
        if not isinstance(response, ReceiveEnvelope) or not isinstance(
            response.message, EndpointConnected
        ):
            self.admin.kill()
            self.admin.join()
            raise InvalidActorAddress(address, "the admin did not start")
