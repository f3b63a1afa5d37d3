"""A connection to RabbitMQ: one channel for each queue, driven by its owner's thread."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pika import exceptions, spec
from pika.channel import Channel

from actors.connectors.rabbitmq.amqp import NO_STREAM, Link, Settings, explain_channel
from actors.connectors.rabbitmq.consumer import Consumer
from actors.connectors.rabbitmq.gathering import Gathering
from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.connectors.rabbitmq.publishing.replies import notice_to
from actors.connectors.rabbitmq.publishing.republisher import Republisher
from actors.connectors.rabbitmq.queues.measuring import Measuring
from actors.connectors.rabbitmq.queues.topology import Topology
from actors.connectors.spool.file import SpoolFile
from actors.errors import Fault
from actors.log import own_logger
from actors.logic.consuming.flow import Flow
from actors.logic.consuming.frames import DeliveryBuffer, settle
from actors.logic.jobs.job import Progress
from actors.logic.settlement.ledger import Flush
from actors.logic.supervision.fuse import Fuse
from actors.plan.plan import PipelinePlan
from actors.roles.port import (
    Consuming,
    Depth,
    Jobless,
    Lost,
    Opened,
    QueueLost,
    Republish,
    Stopped,
)

#: Seconds between looks at every consumer: pika tells of most losses, not of all.
WATCH = 1.0

#: Seconds for an orderly end; what is not settled by then is delivered again.
SHUT_LIMIT = 5.0

#: Seconds after which a broker ends a channel with an unsettled delivery, unless it says another
#: number (`consumer_timeout`).
CONSUMER_TIMEOUT_S = 1800.0

_TAG = "callboard"
_TIMED_OUT = re.compile(r"Timeout value used: (\d+) ms")

logger = own_logger("actors.connection")


class RabbitMQClient(Jobless):
    """An `actors.roles.port.ConnectionClient` for one vhost."""

    def __init__(self, plan: PipelinePlan) -> None:
        self._settings = Settings.parse(plan.settings)
        self._loop = IOLoop()
        self._fuse = Fuse()
        self._gathering = Gathering(self._loop)
        self._events: list[Any] = []
        self._link: Link | None = None
        self._consumers: dict[str, Consumer] = {}
        self._measured: set[str] = set()  # queues that have not answered yet
        self._queues = sum(len(route.queues) for route in plan.routes)
        jobs = [route for route in plan.routes if route.tasks]
        tasks = {queue: route.priorities for route in jobs for queue in route.queues}
        self._topology = Topology(plan.topology, plan.retries, tasks)
        spool = SpoolFile(Path(plan.state_dir) / "spool.db")
        self._republisher = Republisher(
            self._settings, self._loop, self._events_append, spool, tasks
        )
        self._patience = CONSUMER_TIMEOUT_S
        self._patiences = self._topology.patiences  # of queues that have their own
        self._shutting = False
        self._came = False  # deliveries, in this turn

    # ── the client's turn ────────────────────────────────────────────────────

    def fileno(self) -> int:
        return self._loop.fileno()

    def deadline(self) -> float | None:
        return self._loop.deadline()

    def turn(self, now: float) -> list[Any]:
        self._gathering.end()
        try:
            self._loop.turn()
        except Exception as error:  # pika's own: the connection is lost, its owner is not
            if self._fuse.failed(now):
                raise  # it is its own loop that fails: its owner ends with it
            logger.exception("%s: pika failed", self._settings)
            self._abandon(f"{self._settings}: {error!r}")
        for consumer in list(self._consumers.values()):
            self._take(consumer)
        if self._came and self._link is not None:
            self._gathering.begin(self._link, [c.flow for c in self._consumers.values()])
        self._came = False
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        for end in (self._link, self._republisher):
            if end is not None:
                end.drop()
        for _ in range(3):  # pika closes its sockets in callbacks of the loop
            self._loop.turn()
        self._loop.close()

    # ── the connection ───────────────────────────────────────────────────────

    def open(self) -> None:
        self._shutting = False
        if self._link is not None:
            self._link.drop()
        self._consumers.clear()
        try:
            self._link = Link(self._settings, "consumer", self._loop, self._on_open, self._on_lost)
        except OSError as error:
            cause = f"{self._settings}: TLS files: {error}"
            self._later(lambda: self._on_lost(cause, Fault.REFUSED))

    def shut(self) -> None:
        self._shutting = True
        self._republisher.close()
        if self._link is not None and self._link.is_open:
            self._link.close()
            self._loop.call_later(SHUT_LIMIT, partial(self._overdue, self._link))
        else:
            self._later(lambda: self._abandon(""))

    def _on_open(self) -> None:
        assert self._link is not None
        needed, allowed = self._queues + 1, self._link.channel_max  # one asks and declares
        if needed > allowed:
            self._link.leave()
            self._on_lost(
                f"{self._settings}: the broker allows {allowed} channels in a connection, and"
                f" {self._queues} queues take {needed}: raise its channel_max, or leave some routes"
                " to another worker (--route)",
                Fault.REFUSED,
            )
            return
        self._events.append(Opened(self._link.peer))
        self._loop.call_later(WATCH, partial(self._watch, self._link))

    def _on_lost(self, cause: str, fault: Fault) -> None:
        self._link = None
        self._consumers.clear()
        self._measured.clear()
        self._events.append(Lost("" if self._shutting else cause, fault))

    def _abandon(self, cause: str) -> None:
        if self._link is not None:
            self._link.drop()
        self._on_lost(cause, Fault.UNREACHABLE)

    def _overdue(self, link: Link) -> None:
        if link is self._link:
            logger.warning("%s: not closed in order within %s s", self._settings, SHUT_LIMIT)
            self._abandon("")

    # ── queues ───────────────────────────────────────────────────────────────

    def patience(self, queue: str) -> float:
        return self._patiences.get(queue, self._patience)

    def consume(self, queue: str, epoch: int, window: int, alone: int = 0) -> None:
        if self._link is None or not self._link.is_open:
            lost = QueueLost(queue, epoch, "not connected", Fault.UNREACHABLE)
            self._later(lambda: self._events.append(lost))
            return
        if queue in self._consumers:
            self._discard(self._consumers[queue])
        try:
            channel = self._link.channel(on_open_callback=self._on_channel)
        except exceptions.NoFreeChannels:  # those that were given up are still closing
            full = QueueLost(queue, epoch, "no channel is free", Fault.UNREACHABLE)
            self._later(lambda: self._events.append(full))
            return
        buffer = DeliveryBuffer(channel.channel_number, queue, epoch)
        self._link.slicer.sinks[channel.channel_number] = buffer
        consumer = Consumer(queue, epoch, window, alone or window, channel, buffer, Flow(window))
        channel.add_on_close_callback(partial(self._on_channel_closed, consumer))
        self._consumers[queue] = consumer

    def widen(self, queue: str, epoch: int, window: int) -> None:
        # A consumer's prefetch stays what it was at its begin. A second one beside it costs no
        # pause, but gets nothing of a queue with a single active consumer.
        consumer = self._consumer(queue, epoch)
        if consumer is None or not consumer.consuming or consumer.stopping or consumer.fixed:
            return
        if consumer.more and window != consumer.flow.window:
            self._narrow(consumer)  # that of a job's queue changes both ways
        consumer.flow.window = window
        if window > consumer.window and not consumer.more:
            consumer.widened += 1  # a tag that is being cancelled cannot be taken again
            consumer.more = f"{_TAG}+{consumer.widened}"
            consumer.channel.basic_qos(prefetch_count=min(window - consumer.window, 65535))
            consumer.channel.basic_consume(
                consumer.queue, consumer.deliver, consumer_tag=consumer.more
            )

    def resume(self, queue: str, epoch: int) -> None:
        consumer = self._consumer(queue, epoch)
        if consumer is not None and consumer.stopping and consumer.channel.is_open:
            consumer.stopping = consumer.consuming = False
            self._fetch(consumer)

    def cancel(self, queue: str, epoch: int) -> None:
        consumer = self._consumer(queue, epoch)
        if consumer is not None and not consumer.stopping:
            consumer.stopping = True
            if consumer.consuming:
                self._stop(consumer)

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        consumer = self._consumer(queue, epoch)
        if consumer is None or self._link is None or not consumer.channel.is_open:
            return
        consumer.flow.settled(flush)
        frames = settle(consumer.channel.channel_number, flush)
        if frames:
            self._link.write(frames)

    def _consumer(self, queue: str, epoch: int) -> Consumer | None:
        consumer = self._consumers.get(queue)
        return consumer if consumer is not None and consumer.epoch == epoch else None

    def _on_channel(self, channel: Channel) -> None:
        for consumer in list(self._consumers.values()):
            if consumer.channel is channel and self._link is not None:
                channel.add_on_cancel_callback(partial(self._on_cancelled, consumer))
                self._topology.prepare(
                    self._link,
                    consumer.queue,
                    partial(self._fetch, consumer),
                    partial(self._end, consumer),
                )

    def _fetch(self, consumer: Consumer) -> None:
        if self._is_current(consumer) and consumer.channel.is_open:
            if self._topology.single(consumer.queue):
                consumer.window = consumer.fixed = consumer.flow.window = min(consumer.alone, 65535)
            consumer.channel.basic_qos(prefetch_count=min(consumer.window, 65535))
            consumer.channel.basic_consume(
                consumer.queue,
                consumer.deliver,
                consumer_tag=_TAG,
                arguments=NO_STREAM,
                callback=partial(self._on_consuming, consumer),
            )

    def _on_consuming(self, consumer: Consumer, _: Any) -> None:
        if self._is_current(consumer):
            consumer.consuming = True
            limit = self._topology.limit(consumer.queue)
            consuming = Consuming(consumer.queue, consumer.epoch, limit, consumer.fixed)
            self._events.append(consuming)
            if consumer.stopping:
                self._stop(consumer)

    def _narrow(self, consumer: Consumer) -> None:
        if consumer.more:
            tag, consumer.more = consumer.more, ""
            consumer.flow.window = consumer.window
            consumer.channel.basic_cancel(tag, callback=lambda _: None)  # or pika never forgets it

    def _stop(self, consumer: Consumer) -> None:
        self._narrow(consumer)
        consumer.channel.basic_cancel(_TAG, callback=partial(self._on_stopped, consumer))

    def _on_stopped(self, consumer: Consumer, frame: Any) -> None:
        if frame.method.consumer_tag != _TAG:  # pika calls whoever waits for any
            again = partial(self._on_stopped, consumer)
            consumer.channel.add_callback(again, [spec.Basic.CancelOk])
        elif self._is_current(consumer):
            self._take(consumer)
            self._events.append(Stopped(consumer.queue, consumer.epoch))

    def _on_cancelled(self, consumer: Consumer, _: Any) -> None:
        self._end(consumer, "the broker cancelled the consumer", Fault.UNREACHABLE)

    def _on_channel_closed(self, consumer: Consumer, channel: Channel, reason: Any) -> None:
        if self._link is None or self._link.is_closed:
            return  # `Lost` tells it
        self._link.slicer.sinks.pop(channel.channel_number, None)
        if timed_out := _TIMED_OUT.search(str(reason)):
            self._learn_patience(consumer.queue, int(timed_out[1]) / 1000)
        if not self._shutting:
            self._end(consumer, *explain_channel(reason))

    def _learn_patience(self, queue: str, seconds: float) -> None:
        if queue in self._patiences:  # a broker before 3.12 does not know it
            self._patiences[queue] = seconds
        else:
            self._patience = min(self._patience, seconds)

    def _is_current(self, consumer: Consumer) -> bool:
        return self._consumers.get(consumer.queue) is consumer

    def _take(self, consumer: Consumer) -> None:
        if consumer.buffer.broken:
            self._end(consumer, consumer.buffer.broken, Fault.UNREACHABLE)
        elif fetched := consumer.take():
            self._came = True
            self._events.append(fetched)

    def _end(self, consumer: Consumer, cause: str, fault: Fault) -> None:
        if not self._is_current(consumer):
            return
        self._discard(consumer)
        self._events.append(QueueLost(consumer.queue, consumer.epoch, cause, fault))

    def _discard(self, consumer: Consumer) -> None:
        # Its sink stays until the broker has closed the channel: deliveries that are on
        # their way must not reach pika, which might not survive their headers.
        del self._consumers[consumer.queue]
        if not (consumer.channel.is_closed or consumer.channel.is_closing):
            consumer.channel.close()

    def _watch(self, link: Link) -> None:
        if link is not self._link or not link.is_open:
            return
        for consumer in list(self._consumers.values()):
            alive = consumer.channel.is_open and _TAG in consumer.channel.consumer_tags
            if consumer.consuming and not consumer.stopping and not alive:
                self._end(consumer, "its consumer is gone", Fault.UNREACHABLE)
        self._loop.call_later(WATCH, partial(self._watch, link))

    # ── moves and measures ───────────────────────────────────────────────────

    def republish(self, request: Republish) -> None:
        self._republisher.republish(request)

    def notify(self, request: bytes, worker: str, progress: Progress | None) -> None:
        if notice := notice_to(request, worker, progress):
            self._republisher.notify(notice)

    def measure(self, queue: str) -> None:
        link = self._link
        if link is not None and link.is_open and queue not in self._measured:
            self._measured.add(queue)  # a queue that is silent is not asked again
            Measuring(link, queue, partial(self._on_measured, link, queue)).begin()

    def _on_measured(self, link: Link, queue: str, ready: int | None) -> None:
        if link is self._link:
            self._measured.discard(queue)
            if ready is not None:
                self._events.append(Depth(queue, ready))

    def _later(self, callback: Callable[[], None]) -> None:
        self._loop.add_callback(callback)

    def _events_append(self, event: Any) -> None:
        # Where nothing else wakes the loop, an event must still be fetched.
        self._later(lambda: self._events.append(event))
