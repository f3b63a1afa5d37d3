"""The world in memory: queues that deliver, take back and forget as brokers and spools do."""

from __future__ import annotations

import json
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.clients import (
    Consuming,
    Depth,
    Fetched,
    Lost,
    Move,
    Moved,
    Opened,
    Stopped,
)
from actors.logic.ledger import Flush
from actors.logic.records import pack
from actors.plan import UnitPlan


@dataclass(eq=False)
class Stored:
    """One message in the world, and what became of it."""

    body: bytes
    id: str
    headers: dict[str, Any] = field(default_factory=dict)
    priority: int = 0
    attempts: int = 0  #: deliveries that count against it
    redelivered: bool = False
    not_before: float = 0.0
    handed_out: int = 0  #: times that a handler had it
    settled: list[str] = field(default_factory=list)  #: what was done, in order
    reason: str = ""


class World:
    """All queues of all connections of one system."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.reachable = True
        self.queues: dict[str, deque[Stored]] = {}
        self.dead: dict[str, list[Stored]] = {}
        self.clients: list[WorldClient] = []

    def client(self, plan: UnitPlan) -> WorldClient:
        """A connection to this world."""
        client = WorldClient(self, plan)
        self.clients.append(client)
        return client

    def put(self, queue: str, message: Stored) -> None:
        """Store a message at the tail of a queue."""
        self.queues.setdefault(queue, deque()).append(message)

    def hand_out(self, epoch: int, first: int, count: int) -> list[Stored]:
        """The messages behind receipts that a handler gets now."""
        for client in self.clients:
            if channel := client.channels.get(epoch):
                positions = range(first, first + count)
                found = [channel.unsettled[p] for p in positions if p in channel.unsettled]
                for message in found:
                    message.handed_out += 1
                return found
        return []

    def disconnect(self) -> None:
        """Every connection breaks; what was unsettled goes back."""
        for client in list(self.clients):
            client.fail("the connection was cut")


@dataclass
class Channel:
    """One epoch of one queue."""

    queue: str
    window: int
    last: int = 0
    unsettled: dict[int, Stored] = field(default_factory=dict)
    stopped: bool = False


class WorldClient:
    """A `ConnectionClient` of a world in memory."""

    def __init__(self, world: World, plan: UnitPlan) -> None:
        self.channels: dict[int, Channel] = {}
        self._world = world
        self._kind = plan.kind
        self._open = False
        self._events: list[Any] = []

    def fileno(self) -> int:
        return -1

    def deadline(self) -> float | None:
        waiting = [
            message.not_before
            for channel in self.channels.values()
            for message in self._world.queues.get(channel.queue, ())
            if message.not_before > self._world.clock()
        ]
        return min(waiting, default=None)

    def turn(self, now: float) -> list[Any]:
        for epoch, channel in self.channels.items():
            if not channel.stopped and (fetched := self._fetch(epoch, channel, now)):
                self._events.append(fetched)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self._give_back()
        if self in self._world.clients:
            self._world.clients.remove(self)

    # ── the port ──────────────────────────────────────────────────────────────

    def open(self) -> None:
        self._open = self._world.reachable
        event = Opened("memory") if self._open else Lost("nobody answers")
        self._events.append(event)

    def consume(self, queue: str, epoch: int, window: int) -> None:
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
        for position in sorted((*flush.failed, *flush.returned), reverse=True):
            message = channel.unsettled.pop(position)
            failed = position in flush.failed
            message.attempts += failed
            message.settled += ["requeue"] if failed else []
            message.redelivered = True
            self._world.queues[queue].appendleft(message)
        for position in flush.rejected:
            channel.unsettled.pop(position).settled.append("reject")
        for first, last in flush.acked:
            for position in range(first, last + 1):
                # What was moved is gone from here already: its acknowledgement says nothing new.
                if position in channel.unsettled:
                    channel.unsettled.pop(position).settled.append("ack")

    def move(self, move: Move) -> None:
        channel = self.channels.get(move.epoch)
        if channel is None:
            return
        message = channel.unsettled.pop(move.position)
        message.reason = move.reason
        if move.dead:
            message.settled.append("dead_letter")
            self._world.dead.setdefault(move.queue, []).append(message)
        else:
            message.settled.append("requeue")
            message.redelivered = True
            message.attempts = max(message.attempts, move.attempts if move.counted else 0)
            message.not_before = self._world.clock() + move.delay
            self._world.queues[move.queue].append(message)
        self._events.append(Moved(move.token))

    def measure(self, queue: str) -> None:
        now = self._world.clock()
        ready = sum(m.not_before <= now for m in self._world.queues.get(queue, ()))
        self._events.append(Depth(queue, ready))

    def shut(self) -> None:
        self.fail("")

    # ── the inside ────────────────────────────────────────────────────────────

    def fail(self, cause: str) -> None:
        """The connection ends."""
        self._give_back()
        if self._open:
            self._open = False
            self._events = [Lost(cause)]

    def _give_back(self) -> None:
        for channel in self.channels.values():
            for message in reversed(channel.unsettled.values()):
                message.redelivered = True
                self._world.queues[channel.queue].appendleft(message)
        self.channels.clear()

    def _fetch(self, epoch: int, channel: Channel, now: float) -> Fetched | None:
        queue = self._world.queues[channel.queue]
        room = channel.window - len(channel.unsettled)
        ready = [message for message in queue if message.not_before <= now][: max(0, room)]
        if not ready:
            return None
        first = channel.last + 1
        blobs: list[bytes] = []
        flagged: list[tuple[int, int]] = []
        for index, message in enumerate(ready):
            queue.remove(message)
            channel.last += 1
            channel.unsettled[channel.last] = message
            blobs.append(encode(self._kind, channel.queue, channel.last, message))
            if message.redelivered or message.attempts:
                flagged.append((index, max(1, message.attempts)))
        ends = array("I")
        for blob in blobs:
            ends.append(len(blob) + (ends[-1] if ends else 0))
        return Fetched(channel.queue, epoch, first, b"".join(blobs), ends.tobytes(), tuple(flagged))


def encode(kind: str, queue: str, tag: int, message: Stored) -> bytes:
    """A delivery as its kind of connection brings it."""
    if kind == "amqp":
        return _frames(queue, tag, message)
    headers = json.dumps(message.headers).encode() if message.headers else b""
    return pack(message.id, queue, headers, message.priority, 0.0, message.attempts, message.body)


def _frames(queue: str, tag: int, message: Stored) -> bytes:
    from pika import BasicProperties, frame, spec

    properties = BasicProperties(
        headers=_plain(message.headers) or None, message_id=message.id, priority=message.priority
    )
    deliver = spec.Basic.Deliver(queue, tag, message.redelivered, "", queue)
    frames = [frame.Method(1, deliver), frame.Header(1, len(message.body), properties)]
    if message.body:
        frames.append(frame.Body(1, message.body))
    return b"".join(one.marshal() for one in frames)


def _plain(headers: Mapping[str, Any]) -> dict[str, Any]:
    return dict(headers)
