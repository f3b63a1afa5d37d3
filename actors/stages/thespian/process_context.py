"""The context of an actor that has a process of its own."""

from __future__ import annotations

import heapq
import itertools
import os
import time
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from thespian import actors as thespian

from actors.log import own_logger
from actors.roles.context import Client
from actors.roles.protocol import ActorMessage
from actors.stages.link.throttled import ThrottledLog
from actors.stages.thespian.processes import Child
from actors.stages.thespian.roles import client_of
from actors.usercode.boottime import boot_time

if TYPE_CHECKING:
    from actors.stages.thespian.stage import ActorProcess

log = own_logger(__name__)

MAX_LEARNED = 1024  #: names of others that are remembered


class Envelope(NamedTuple):
    """A message on its way, with the addresses of those whom it introduces."""

    to: str
    sender: str
    message: ActorMessage
    addresses: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:  # Thespian formats every message three times a hop
        return "Envelope"


class ProcessContext:
    """The hands of the actor that a host plays."""

    def __init__(self, host: ActorProcess, name: str) -> None:
        self.name = name
        self.pid = os.getpid()
        self.random = Random()
        self.children: dict[str, Child] = {}
        self.current_client: Client | None = None
        self.leaving = False
        self.log_throttled = ThrottledLog(log)
        self._host = host
        self._learned: dict[str, Any] = {}
        self._reminders: list[tuple[float, int, ActorMessage]] = []
        self._order = itertools.count()

    def send(self, to: str, message: ActorMessage) -> None:
        address = self._address_of(to)
        if address is None:
            self.log_throttled.add("sent to nobody", f"{message} to {to!r} by {self.name!r}")
            return
        self._host.post(address, Envelope(to, self.name, message, self._introduced(message)))

    def remind(self, seconds: float, reminder: ActorMessage) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._reminders, (due, next(self._order), reminder))

    def clock(self) -> float:
        return boot_time()

    def create(self, name: str, role: str) -> None:
        address = self._host.createActor(type(self._host), {"name": name, "role": role})
        process = self._host.process_of(address)
        self.children[name] = Child(address, process, lacks=self._host.forks)

    def kill(self, name: str) -> None:
        child = self.children.get(name)
        if child is None:
            return
        if child.process is None:
            self._host.send(child.address, thespian.ActorExitRequest())
        else:
            child.process.kill()
            child.kill_at = time.monotonic()  # look until it is dead

    def exit(self) -> None:
        self.leaving = True

    def client(self, kind: str, settings: Any) -> Any:
        self.close_client()
        self.current_client = client_of(kind)(settings)
        return self.current_client

    # ── for the host ───────────────────────────────────────────────────────────

    def learn(self, name: str, address: Any) -> None:
        """Remember who it was last heard of from, and forget who was not for longest."""
        self._learned.pop(name, None)
        self._learned[name] = address
        if len(self._learned) > MAX_LEARNED:
            del self._learned[next(iter(self._learned))]

    def due_reminders(self, now: float) -> list[ActorMessage]:
        due = []
        while self._reminders and self._reminders[0][0] <= now:
            due.append(heapq.heappop(self._reminders)[2])
        return due

    def next_due(self) -> float | None:
        """When something is to be done next, in monotonic seconds."""
        times = [self._reminders[0][0]] if self._reminders else []
        if self.current_client and (deadline := self.current_client.deadline()) is not None:
            times.append(deadline)
        return min(times, default=None)

    def close_client(self) -> None:
        client, self.current_client = self.current_client, None
        if client is not None:
            try:
                client.close()
            except Exception:
                log.exception("%s: the client failed to close", self.name)

    def _address_of(self, name: str) -> Any:
        child = self.children.get(name)
        return child.address if child else self._learned.get(name)

    def _introduced(self, message: ActorMessage) -> tuple[tuple[str, Any], ...]:
        known = ((name, self._address_of(name)) for name in message.introduces)
        return tuple((name, address) for name, address in known if address is not None)
