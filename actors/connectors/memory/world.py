"""The world in memory: queues that deliver, take back and forget as brokers and spools do."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from actors.api.options import Actions
from actors.connectors.memory.wire import Stored, Wire, fetched
from actors.errors import Fault
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import (
    Consuming,
    Depth,
    Fetched,
    Lost,
    Opened,
    Patient,
    QueueLost,
    Republish,
    Republished,
    RepublishFailed,
    Stopped,
)


class World:
    """All queues of all connections of one system."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.reachable = True  #: whether a connection can be made
        self.storing = True  #: whether copies are taken: dead letters, retries
        self.missing: set[str] = set()  #: queues that cannot be consumed
        self.queues: dict[str, deque[Stored]] = {}
        self.dead: dict[str, list[Stored]] = {}
        self.published: list[Stored] = []  #: by handlers
        self.clients: dict[str, WorldClient] = {}  #: the living one of each pipeline
        self._later: list[tuple[float, int, str, Stored]] = []
        self._order = itertools.count()

    def client(self, plan: PipelinePlan) -> WorldClient:
        """A connection to this world."""
        self.clients[plan.name] = WorldClient(self, plan)
        return self.clients[plan.name]

    def put(self, queue: str, message: Stored, delay: float = 0.0) -> None:
        """Store a message at the tail of a queue, now or after so many seconds."""
        if delay > 0:
            due = self.clock() + delay
            heapq.heappush(self._later, (due, next(self._order), queue, message))
        else:
            self.queues.setdefault(queue, deque()).append(message)

    def ripen(self) -> None:
        """Put into their queues what was delayed until now."""
        while self._later and self._later[0][0] <= self.clock():
            _, _, queue, message = heapq.heappop(self._later)
            self.queues.setdefault(queue, deque()).append(message)

    def next_ripe(self) -> float | None:
        """When the next delayed message is due."""
        return self._later[0][0] if self._later else None

    def hand_out(self, pipeline: str, epoch: int, first: int, count: int) -> list[Stored]:
        """The messages behind receipts that a handler gets now."""
        client = self.clients.get(pipeline)
        if client is None or epoch not in client.channels:
            return []
        unsettled = client.channels[epoch].unsettled
        found = [unsettled[p] for p in range(first, first + count) if p in unsettled]
        for message in found:
            message.handed_out += 1
        return found

    def disconnect(self, cause: str = "the connection was cut") -> None:
        """Every connection breaks; what was unsettled goes back."""
        for client in list(self.clients.values()):
            client.fail(cause)

    def lose_queue(self, queue: str, cause: str, fault: str = Fault.UNREACHABLE) -> None:
        """The broker ends every channel of a queue; what was unsettled goes back."""
        for client in self.clients.values():
            client.lose_queue(queue, cause, fault)


@dataclass(slots=True)
class Channel:
    """One epoch of one queue."""

    queue: str
    window: int
    last: int = 0
    unsettled: dict[int, Stored] = field(default_factory=dict)
    republishing: set[int] = field(default_factory=set)  #: copied elsewhere, not yet acknowledged
    stopped: bool = False

    @property
    def room(self) -> int:
        return 0 if self.stopped else self.window - len(self.unsettled) - len(self.republishing)

    def take(self, position: int) -> Stored:
        """End a delivery, which is possible once."""
        if position not in self.unsettled:
            raise LookupError(f"{self.queue}: delivery {position} is settled a second time")
        return self.unsettled.pop(position)


class WorldClient(Patient):
    """A `ConnectionClient` of a world in memory."""

    def __init__(self, world: World, plan: PipelinePlan) -> None:
        self.channels: dict[int, Channel] = {}  #: by epoch
        self._world = world
        self._name = plan.name
        self._wire = Wire(plan.kind)
        self._open = False
        self._events: list[Any] = []

    def fileno(self) -> int:
        return -1

    def deadline(self) -> float | None:
        return self._world.next_ripe()

    def turn(self, now: float) -> list[Any]:
        self._world.ripen()
        for epoch, channel in self.channels.items():
            if chunk := self._fetch(epoch, channel, channel.room):
                self._events.append(chunk)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self._give_back(list(self.channels))
        if self._world.clients.get(self._name) is self:
            del self._world.clients[self._name]

    # ── the port ──────────────────────────────────────────────────────────────

    def open(self) -> None:
        self._open = self._world.reachable
        event = Opened("memory") if self._open else Lost("nobody answers")
        self._events.append(event)

    def consume(self, queue: str, epoch: int, window: int, alone: int = 0) -> None:
        if queue in self._world.missing:
            self._events.append(QueueLost(queue, epoch, f"no queue {queue!r}", Fault.MISSING))
            return
        self.channels[epoch] = Channel(queue, window)
        self._world.queues.setdefault(queue, deque())
        self._events.append(Consuming(queue, epoch))

    def cancel(self, queue: str, epoch: int) -> None:
        if channel := self.channels.get(epoch):
            channel.stopped = True
            self._events.append(Stopped(queue, epoch))

    def resume(self, queue: str, epoch: int) -> None:
        if channel := self.channels.get(epoch):
            channel.stopped = False
            self._events.append(Consuming(queue, epoch))

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        channel = self.channels.get(epoch)
        if channel is None:
            return
        told = dict(flush.told)
        for position in sorted((*flush.failed, *flush.returned), reverse=True):
            message = channel.take(position)
            if position in flush.failed:
                message.actions.append(Actions.REQUEUE)
            else:
                message.attempts -= self._wire.counts
            if self._wire.counts and position in told:
                message.attempts = told[position]
            message.redelivered = True
            self._world.queues[queue].appendleft(message)
        for position in flush.rejected:
            channel.take(position).actions.append(Actions.REJECT)
        for position in (p for first, last in flush.acked for p in range(first, last + 1)):
            if position in channel.republishing:
                channel.republishing.remove(position)
            else:
                channel.take(position).actions.append(Actions.ACK)

    def republish(self, request: Republish) -> None:
        channel = self.channels.get(request.epoch)
        if channel is None:
            return
        if not self._world.storing:
            self._events.append(RepublishFailed(request.token, "copies are refused"))
            return
        message = channel.take(request.position)
        channel.republishing.add(request.position)
        message.reason, message.redelivered = request.reason, False
        if request.dead:
            message.actions.append(Actions.DEAD_LETTER)
            self._world.dead.setdefault(request.queue, []).append(message)
        else:
            message.actions.append(Actions.REQUEUE)
            message.attempts = request.attempts
            self._world.put(request.queue, message, request.delay)
        self._events.append(Republished(request.token))

    def measure(self, queue: str) -> None:
        self._events.append(Depth(queue, len(self._world.queues.get(queue, ()))))

    def shut(self) -> None:
        self.fail("")

    # ── what befalls it ───────────────────────────────────────────────────────

    def fail(self, cause: str) -> None:
        """The connection ends."""
        self._give_back(list(self.channels))
        if self._open:
            self._open = False
            self._events = [Lost(cause)]

    def lose_queue(self, queue: str, cause: str, fault: str) -> None:
        """The channels of a queue end."""
        ended = [epoch for epoch, channel in self.channels.items() if channel.queue == queue]
        self._give_back(ended)
        self._events += [QueueLost(queue, epoch, cause, fault) for epoch in ended]

    def _give_back(self, epochs: list[int]) -> None:
        for epoch in epochs:
            channel = self.channels.pop(epoch)
            for message in reversed(channel.unsettled.values()):
                message.redelivered = True
                self._world.queues[channel.queue].appendleft(message)

    def _fetch(self, epoch: int, channel: Channel, room: int) -> Fetched | None:
        queue = self._world.queues[channel.queue]
        deliveries: list[tuple[bytes, int]] = []
        first = channel.last + 1
        while queue and len(deliveries) < room:
            message = queue.popleft()
            channel.last += 1
            channel.unsettled[channel.last] = message
            deliveries.append(self._wire.delivery(channel.queue, channel.last, message))
            message.attempts += self._wire.counts
        return fetched(channel.queue, epoch, first, deliveries) if deliveries else None
