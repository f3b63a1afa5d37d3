"""The connection's end of a link to the model broker."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from actors.logic.consuming.frames import Delivery, DeliveryBuffer, settle
from actors.logic.settlement.copying import Form, Refusal
from actors.logic.settlement.ledger import Flush
from actors.roles.port import (
    Consuming,
    Depth,
    Jobless,
    Lost,
    Opened,
    QueueLost,
    Republish,
    Republished,
    RepublishFailed,
    Stopped,
)
from tests.simulation.letters import Channel
from tests.simulation.link import Link

if TYPE_CHECKING:
    from tests.simulation.broker import Broker

#: Seconds in which a connection is closed in order, or not at all.
SHUT_LIMIT = 5.0


@dataclass(slots=True)
class Consumer:
    """One queue's epoch, on the client's side."""

    epoch: int
    buffer: DeliveryBuffer


class BrokerClient(Jobless):
    """What `RabbitMQClient` is, without pika and sockets: the frames are the same."""

    def __init__(self, broker: Broker) -> None:
        self.receipts = broker.witness.connected()
        self._broker = broker
        self._link: Link | None = None
        self._consumers: dict[str, Consumer] = {}
        self._fresh = False  # something came that was not taken yet
        self._events: list[Any] = []
        self._shutting = False
        self._closed = False

    def fileno(self) -> int:
        return -1

    def deadline(self) -> float | None:
        return self._broker.now if self._events or self._fresh else None

    def turn(self, now: float) -> list[Any]:
        self._take()
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self._closed = True
        self._consumers.clear()
        if self._link:
            self._link.close()
            self._link = None

    # ── from the link ─────────────────────────────────────────────────────────

    def hear(self, what: Any) -> None:
        if isinstance(what, tuple):
            self._come(*what)
        elif isinstance(what, Lost):
            self.lose(what.cause)
        else:
            self._take()
            consumer = self._consumers.get(what.queue)
            if consumer and consumer.epoch == what.epoch:
                self._events.append(what)
                if isinstance(what, QueueLost):
                    self._discard(what.queue)

    def lose(self, cause: str) -> None:
        self._link = None
        self._consumers.clear()
        self._fresh = False
        self._events.append(Lost("" if self._shutting else cause))

    def _come(self, queue: str, epoch: int, frames: bytes, letter: Any) -> None:
        consumer = self._consumers.get(queue)
        if consumer and consumer.epoch == epoch:
            if self._broker.faults.strikes("small chunk"):
                self._take()
            consumer.buffer.cut(frames, 0, len(frames))
            self._fresh = True

    def _take(self) -> None:
        if self._fresh:
            self._fresh = False
            for consumer in self._consumers.values():
                if cut := consumer.buffer.take():
                    self._events.append(cut)

    # ── the port ──────────────────────────────────────────────────────────────

    def open(self) -> None:
        self._shutting = False
        self._consumers.clear()
        if self._link:
            self._link.close()
        self._link = Link(self._broker, self) if self._broker.reachable else None
        self._events.append(Opened("memory") if self._link else Lost("nobody answers"))

    def consume(self, queue: str, epoch: int, window: int, alone: int = 0) -> None:
        if self._link is None:
            self._events.append(QueueLost(queue, epoch, "not connected"))
            return
        if queue in self._consumers:
            self._discard(queue)
        self._consumers[queue] = Consumer(epoch, DeliveryBuffer(epoch, queue, epoch))
        self._link.tell(partial(self._begin, self._link, queue, epoch, window))

    def _begin(self, link: Link, queue: str, epoch: int, window: int) -> None:
        link.channels[epoch] = Channel(link, queue, epoch, window)
        link.say(Consuming(queue, epoch, self._broker.limit))
        self._broker.serve()

    def patience(self, queue: str) -> float:
        return self._broker.patience

    def widen(self, queue: str, epoch: int, window: int) -> None:
        consumer, link = self._consumers.get(queue), self._link
        if not link or not consumer or consumer.epoch != epoch:
            return

        def carry_out() -> None:
            if channel := link.channels.get(epoch):
                channel.window = window
                self._broker.serve()

        link.tell(carry_out)

    def cancel(self, queue: str, epoch: int) -> None:
        self._switch(queue, epoch, False)

    def resume(self, queue: str, epoch: int) -> None:
        self._switch(queue, epoch, True)

    def _switch(self, queue: str, epoch: int, on: bool) -> None:
        link, consumer = self._link, self._consumers.get(queue)
        if not link or not consumer or consumer.epoch != epoch:
            return

        def carry_out() -> None:
            if channel := link.channels.get(epoch):
                channel.consuming = on
                limit = self._broker.limit
                link.say(Consuming(queue, epoch, limit) if on else Stopped(queue, epoch))
                self._broker.serve()

        link.tell(carry_out)

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        self._broker.witness.settled(self.receipts, epoch, flush)
        consumer, link = self._consumers.get(queue), self._link
        if not link or not consumer or consumer.epoch != epoch:
            return
        frames = settle(epoch, flush)

        def carry_out() -> None:
            if channel := link.channels.get(epoch):
                self._broker.settle(channel, frames)

        link.tell(carry_out)

    def _discard(self, queue: str) -> None:
        """Close the channel of a queue."""
        epoch, link = self._consumers.pop(queue).epoch, self._link

        def carry_out() -> None:
            if link and (channel := link.channels.pop(epoch, None)):
                self._broker.end(channel)
                self._broker.serve()

        if link:
            link.tell(carry_out)

    def republish(self, request: Republish) -> None:
        self._broker.witness.on_republished(self.receipts, request)
        self._broker.at(self._broker.now + self._broker.lag(), partial(self._copy, request))

    def _copy(self, request: Republish) -> None:
        broker = self._broker
        if not broker.storing:
            self._events.append(RepublishFailed(request.token, "copies are refused"))
            return
        unfit = broker.witness.stories[int(Delivery(request.raw).body)].unfit
        if unfit and request.form is not Form.KEPT:
            cause = "no such copy can be made"
            self._events.append(RepublishFailed(request.token, cause, Refusal.UNFIT))
            return
        broker.copy(request)
        if broker.faults.strikes("unconfirmed"):
            self._events.append(RepublishFailed(request.token, "not confirmed"))
        else:
            broker.witness.copied(self.receipts, request)
            self._events.append(Republished(request.token))

    def measure(self, queue: str) -> None:
        self._events.append(Depth(queue, self._broker.depth(queue)))

    def shut(self) -> None:
        broker, link = self._broker, self._link
        self._shutting = True
        if link is None:
            self._events.append(Lost(""))
            return
        link.tell(link.hang_up)
        broker.at(broker.now + SHUT_LIMIT, partial(self._overdue, link))

    def _overdue(self, link: Link) -> None:
        if link is self._link:
            link.close()
            self.lose("")
