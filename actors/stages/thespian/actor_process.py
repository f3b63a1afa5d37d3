"""The real stage: each actor in a process of its own, on Thespian.

An `ActorProcess` is the Thespian actor that plays one plain actor. Actors know each other by
name; a name is good for one incarnation, an address only until its port is used again.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import multiprocessing
import os
import time
from datetime import timedelta
from multiprocessing.process import BaseProcess
from random import Random
from typing import Any, NamedTuple

from thespian import actors as thespian
from thespian.system.transport.IPBase import IPActorAddress

from actors.api.connector import resolve
from actors.log import ThrottledLog, own_logger
from actors.logic.supervision.fuse import Fuse
from actors.roles.context import CLIENT, SELF, STAGE, Actor, Client
from actors.roles.protocol import ActorMessage, ChildExited
from actors.stages.thespian.processes import (
    Child,
    die_with_parent,
    end_with_parent,
    let_go_of_locks,
    obey_only_the_supervisor,
    restore_signals_in_forks,
    show_as,
)
from actors.stages.thespian.roles import ROLES, client_of
from actors.stages.thespian.transport import SealedTransport
from actors.usercode.process import boot_time, forget_exit_functions

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
    """The context of an actor that has a process of its own."""

    def __init__(self, process: ActorProcess, name: str) -> None:
        self.name = name
        self.pid = os.getpid()
        self.random = Random()
        self.children: dict[str, Child] = {}
        self.current_client: Client | None = None
        self.leaving = False
        self.throttled_log = ThrottledLog(log)
        self._process = process
        self._learned: dict[str, Any] = {}
        self._reminders: list[tuple[float, int, ActorMessage]] = []
        self._order = itertools.count()

    def send(self, to: str, message: ActorMessage) -> None:
        address = self._address_of(to)
        if address is None:
            self.throttled_log.add("sent to nobody", f"{message} to {to!r} by {self.name!r}")
            return
        self._process.post(address, Envelope(to, self.name, message, self._introduced(message)))

    def remind(self, seconds: float, reminder: ActorMessage) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._reminders, (due, next(self._order), reminder))

    def clock(self) -> float:
        return boot_time()

    def create(self, name: str, role: str) -> None:
        address = self._process.createActor(type(self._process), {"name": name, "role": role})
        process = self._process.process_of(address)
        self.children[name] = Child(address, process, lacks=self._process.forks)

    def kill(self, name: str) -> None:
        child = self.children.get(name)
        if child is None:
            return
        if child.process is None:
            self._process.send(child.address, thespian.ActorExitRequest())
        else:
            child.process.kill()
            child.kill_at = time.monotonic()  # look until it is dead

    def exit(self) -> None:
        self.leaving = True

    def client(self, kind: str, settings: Any) -> Any:
        self.close_client()
        self.current_client = client_of(kind)(settings)
        return self.current_client

    # ── for the actor process ───────────────────────────────────────────────────────────

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


log = own_logger(__name__)

POLL = 0.002  #: seconds between looks at a client where nothing can be watched
LINGER = 1.0  #: seconds for a child to end after it said goodbye
LATE = 0.05  #: seconds after which an armed wakeup counts as lost
USER_CODE = ("handler", "clock")  #: roles whose processes run it

# Thespian replaces both in every process by ones that send each record as a message.
_ROOT_LOGGER, _LOGGERS = logging.root, logging.Logger.manager


class ActorProcess(thespian.Actor):  # type: ignore[misc]
    """Plays one plain actor; nothing it raises reaches Thespian, which would run it again."""

    def __init__(self, capabilities: dict[str, Any], requirements: dict[str, str]) -> None:
        super().__init__()
        # simpleSystemBase plays all actors in the caller's process, and watches nothing.
        self.forks = bool(capabilities["Thespian Watch Supported"])
        if self.forks:
            die_with_parent()
            obey_only_the_supervisor()
            multiprocessing.current_process().name = requirements["name"]
            show_as(f"callboard: {requirements['name']}")
            if requirements["role"] in USER_CODE:
                end_with_parent()
                let_go_of_locks()
                forget_exit_functions()
                restore_signals_in_forks()
            logging.root = logging.Logger.root = _ROOT_LOGGER
            logging.Logger.manager = _LOGGERS
        self.context = ProcessContext(self, requirements["name"])
        self._role = requirements["role"]
        self._actor: Actor | None = None
        self._armed: float | None = None
        self._left = False
        self._fuse = Fuse()
        self._transport: SealedTransport | None = None

    def receiveMessage(self, message: Any, sender: Any) -> Any:
        if self.forks and self._transport is None:
            self._transport = self._myRef.transport
            self._transport.hear = self._hear
        try:
            if isinstance(message, thespian.ActorExitRequest):
                self._left = True
                self.context.close_client()
            elif not self._left:
                self._handle(message, sender, time.monotonic())
                self._arm()
                return self._watch()
        except BaseException:
            # Not the actor's own: that is caught below. Its supervisor starts a sound one.
            self._failed("the stage failed")
            self._leave()
        return None

    def post(self, address: Any, envelope: Envelope) -> None:
        """Send; past Thespian's bookkeeping where all addresses are those of known processes."""
        starting = envelope.addresses or not isinstance(address.addressDetails, IPActorAddress)
        if self._transport is None or starting:
            self.send(address, envelope)
            return
        try:
            self._transport.post(address, envelope)
        except Exception as problem:  # it cannot be pickled
            self.context.throttled_log.add("could not send", repr(problem))

    def _hear(self, message: Any, sender: Any) -> bool:
        """What is meant for us, past Thespian's bookkeeping; False: it is for Thespian."""
        if not isinstance(message, Envelope | thespian.WatchMessage):
            return False
        watch = self.receiveMessage(message, sender)
        assert self._transport is not None
        self._transport.set_watch(watch.filenos if watch else [])
        return True

    def process_of(self, address: Any) -> BaseProcess | None:
        """The process that was just forked for a child, where one was."""
        forked = getattr(self._myRef, "_child_procs", ())
        return forked[-1].childProc if forked and forked[-1].childAddr == address else None

    def _handle(self, message: Any, sender: Any, now: float) -> None:
        context = self.context
        match message:
            case Envelope(to=context.name, message=ActorMessage()):
                context.learn(message.sender, sender)
                for name, address in message.addresses:  # the sender's, where one passed it on
                    context.learn(name, address)
                self._play(message.message, message.sender, now)
            case Envelope():
                context.throttled_log.add(
                    "dropped a message",
                    f"{type(message.message).__name__} to {message.to!r} at {context.name!r}",
                )
            case thespian.WakeupMessage(payload=armed):
                if armed == self._armed:
                    self._armed = None
            case thespian.ChildActorExited(childAddress=address):
                for child in context.children.values():
                    if child.kill_at is None and child.address == address:
                        child.kill_at = now + LINGER
            case thespian.PoisonMessage(poisonMessage=lost):
                context.throttled_log.add("could not send", lost)
            case thespian.WatchMessage():
                pass
            case _:
                context.throttled_log.add("dropped an unknown message", type(message).__name__)
        for reminder in context.due_reminders(now):
            self._play(reminder, SELF, now)
        self._turn(now, isinstance(message, thespian.WatchMessage) or not self.forks)
        self._report_exits(now)
        if context.leaving:
            self._leave()

    def _play(self, message: Any, sender: str, now: float) -> None:
        try:
            if self._actor is None:
                self._actor = resolve(ROLES[self._role])(self.context)
            self._actor.on(message, sender, now)
        except BaseException:
            self._failed(f"{message} failed")
            if self._actor is None or self._fuse.failed(now):
                self.context.exit()  # it cannot be played: its supervisor is to know

    def _turn(self, now: float, ready: bool) -> None:
        client = self.context.current_client
        if client is None:
            return
        deadline = client.deadline()
        if not ready and (deadline is None or deadline > now):
            return
        try:
            events = client.turn(now)
        except BaseException:
            # Nobody knows what state it is in, and it would fail again at once.
            self._failed("the client failed")
            self.context.exit()
            return
        for event in events:
            self._play(event, CLIENT, now)

    def _report_exits(self, now: float) -> None:
        """Tell of children once they are dead: goodbye is said before.

        All are looked at: while Thespian tells of one that died, it forgets in silence the
        others that have died by then.
        """
        for name, child in list(self.context.children.items()):
            if child.is_dead():
                del self.context.children[name]
                self._play(ChildExited(name, child.cause()), STAGE, now)
            elif child.process and child.kill_at and now > child.kill_at:
                child.process.kill()

    def _leave(self) -> None:
        if self._left:
            return
        self._left = True
        self.context.close_client()
        # Not to the children: whoever is left dies with this process.
        self.send(self.myAddress, thespian.ActorExitRequest(recursive=False))

    def _arm(self) -> None:
        """Have Thespian wake us in time. A wakeup cannot be cancelled, and may be lost."""
        now = time.monotonic()
        due = self._next_due(now)
        if due is None:
            return
        # Our transport has one wakeup, which is moved; elsewhere none can be cancelled.
        moved = due != self._armed if self.forks else self._armed is None or due < self._armed
        if self._armed is None or moved or now > self._armed + LATE:
            self._armed = due
            self.wakeupAfter(timedelta(seconds=max(0.0, due - now)), due)

    def _next_due(self, now: float) -> float | None:
        times = [self.context.next_due()]
        if self.context.current_client and not self.forks:
            times.append(now + POLL)
        if any(child.kill_at is not None for child in self.context.children.values()):
            times.append(now + 0.01)
        return min((each for each in times if each is not None), default=None)

    def _watch(self) -> Any:
        client = self.context.current_client
        if client is None or not self.forks:
            return None
        fd = client.fileno()
        return thespian.ThespianWatch([fd]) if fd >= 0 else None

    def _failed(self, what: str) -> None:
        self.context.throttled_log.counts["failures"] += 1
        log.exception("%s: %s", self.context.name, what)
