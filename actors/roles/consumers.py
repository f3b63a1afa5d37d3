"""The queues that a connection consumes, each on a channel of its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from actors.errors import Fault
from actors.log import own_logger
from actors.logic.bulks.bulk import Report
from actors.logic.consuming.sources import SLOW_JOB_S, Channel, JobPace, Pace, Source, Sources
from actors.plan.plan import PipelinePlan, RoutePlan
from actors.roles.context import Context
from actors.roles.port import ConnectionClient, Consuming, Depth, QueueLost, Stopped
from actors.roles.settler import Settler

log = own_logger("actors.connection")

#: Seconds until it is said again that deliveries of a queue wait for too long.
TELL_AGAIN = 600.0


class Consumers:
    """The part of a connection that opens, stops and reopens queues."""

    def __init__(
        self, plan: PipelinePlan, context: Context, client: ConnectionClient, settler: Settler
    ) -> None:
        self.ending = False  #: nothing is opened any more
        self._name = plan.name
        self._max_bytes = plan.max_bytes
        self._context = context
        self._client = client
        self._settler = settler
        self._paused = False  # more bytes are unsettled than may be
        self._sources = Sources(
            Source(queue, route.name, pace_of(route, plan))
            for route in plan.routes
            for queue in route.queues
        )

        self._rows = rows_of(plan)
        self._limits: dict[tuple[str, ...], int] = {}

    @property
    def consumes(self) -> bool:
        """Whether every queue is fetched from."""
        return self._sources.all(Channel.CONSUMING)

    @property
    def trouble(self) -> str:
        """Why a queue is not fetched from; empty where none was lost."""
        lost = (source for source in self._sources if source.reason)
        return next((f"queue {source.queue}: {source.reason}" for source in lost), "")

    @property
    def stopped(self) -> bool:
        """Whether nothing more comes."""
        return self._sources.all(Channel.STOPPED)

    @property
    def empty(self) -> bool:
        """Whether every queue was measured empty, and nothing came since."""
        return all(source.empty for source in self._sources)

    @property
    def routes(self) -> list[str]:
        return sorted({source.route for source in self._sources})

    @property
    def waiting(self) -> dict[str, int]:
        """Deliveries that were ready and in nobody's hand, by route; where it was measured."""
        waiting: dict[str, int] = {}
        for source in self._sources:
            if source.ready is not None:
                waiting[source.route] = waiting.get(source.route, 0) + source.ready
        return waiting

    @property
    def jobs(self) -> dict[str, dict[str, int]]:
        """The jobs of each route by status; where they were counted."""
        return {source.route: dict(source.jobs) for source in self._sources if source.jobs}

    def due(self) -> list[float]:
        """When queues without a channel are to be tried."""
        return self._sources.due()

    def open(self, served: Collection[str], now: float) -> None:
        """Open every queue that has a handler and no channel."""
        if self.ending:
            return
        self._limit()
        for source in self._sources.to_open(served, now):
            patience = self._client.patience(source.queue)
            source.window = source.pace.first(patience)
            self._settler.unacked.begin(
                source.epoch, source.queue, source.route, source.window, patience
            )
            alone = source.pace.alone(patience)
            self._client.consume(source.queue, source.epoch, source.window, alone)

    def came(self, queue: str) -> None:
        """Something was fetched."""
        self._sources[queue].empty = False
        if self._rows:
            self._limit()

    def measure(self) -> None:
        """Ask how much is ready; the answers come to `hear`."""
        for source in self._sources:
            self._client.measure(source.queue)

    def on_event(self, event: Consuming | QueueLost | Stopped | Depth, now: float) -> float:
        """What the world says of one queue; of a channel that is gone already: nothing.
        Returns the seconds until a queue that was lost is tried again.
        """
        if isinstance(event, Depth):
            self._sources[event.queue].measured(event.ready)
            self._sources[event.queue].jobs = event.jobs
        elif source := self._sources.living(event.queue, event.epoch):
            match event:
                case Consuming():
                    source.consumes(now)
                    self._settler.limits[event.queue] = event.limit
                    source.fixed = bool(event.fixed)
                    if source.fixed:
                        source.window = event.fixed
                        self._settler.unacked.resize(source.epoch, source.window)
                    log.info("connection %s: consumes %s", self._name, source.queue)
                    if self.ending or source.idle:
                        self._stop(source)
                    else:
                        self._widen(source, now)
                case QueueLost():
                    return self._lose(source, event, now)
                case Stopped():
                    source.channel = Channel.STOPPED
        return 0.0

    def lose_all(self) -> None:
        """The connection is gone, and every channel with it."""
        for source in self._sources:
            self._settler.end(source.epoch)
            source.epoch = 0
            source.channel = Channel.STOPPED if self.ending else Channel.IDLE

    def end(self) -> None:
        """Fetch no more; what came may still be settled."""
        self.ending = True
        for source in self._sources:
            if source.channel in (Channel.OPENING, Channel.CONSUMING):
                self._stop(source)
            elif source.channel is Channel.IDLE:
                source.channel = Channel.STOPPED

    def serve(self, waiting: Collection[str]) -> None:
        """Fetch nothing for routes that wait for somebody who can work on them."""
        for source in self._sources:
            source.idle = source.route in waiting
            if source.idle and source.channel is Channel.CONSUMING and not self.ending:
                self._stop(source)
        self._resume()

    def learn(self, reports: Iterable[Report], now: float) -> None:
        """Handlers report on their work: what is held follows their pace."""
        for report in reports:
            for source in self._sources:
                if source.route == report.route:
                    source.pace.learn(report.deliveries, report.seconds)
                    self._widen(source, now)
        self._limit()

    def work_long(self, queue: str, now: float) -> None:
        """A job of a queue is at work and not over at once: no other is to wait behind it."""
        source = self._sources[queue]
        if source.pace.cost is None or source.pace.cost < SLOW_JOB_S:
            source.pace.learn(1, SLOW_JOB_S)
            self._widen(source, now)
            self._limit()

    def recall(self, now: float) -> list[tuple[int, int]]:
        """What the broker will soon have waited too long for, as (epoch, last position): what is
        held returns at once, and what no handler has begun is to."""
        unacked = self._settler.unacked
        recalled: list[tuple[int, int]] = []
        for source in self._sources:
            patience = self._client.patience(source.queue)
            if source.epoch and not math.isinf(patience):
                ages = unacked.ages(source.epoch)
                old = ages.before(now - source.pace.begun_within(patience))
                if old:
                    unacked.release(source.epoch, old)
                    recalled.append((source.epoch, old))
                if ages.before(now - patience / 2) and now >= source.told + TELL_AGAIN:
                    source.told = now
                    log.warning(
                        "connection %s: queue %s: a delivery of route %s is unsettled for half of"
                        " the %g s after which RabbitMQ takes back all that its channel holds;"
                        " %s: give the route a smaller prefetch or bulk_size, or more concurrency,"
                        " or the broker a longer consumer_timeout",
                        *(self._name, source.queue, source.route, patience, source.pace),
                    )
        self._settler.flush(now)
        return recalled

    def _widen(self, source: Source, now: float) -> None:
        if source.channel is Channel.CONSUMING and not (self.ending or source.fixed):
            unsettled = self._settler.unacked.unsettled_of(source.epoch)
            patience = self._client.patience(source.queue)
            window = source.pace.change(source.window, unsettled, patience, now)
            if window != source.window:
                source.window = window
                self._settler.unacked.resize(source.epoch, window)
                self._client.widen(source.queue, source.epoch, window)

    def _limit(self) -> None:
        """Queues of jobs whose handlers take turns hold no more together than one alone may."""
        for queues, slots in self._rows.items():
            sources = [self._sources[queue] for queue in queues]
            known = [s for s in sources if s.pace.cost is not None or self._holds(s)]
            most = min((s.pace.wanted(math.inf) for s in known), default=slots)
            if self._limits.get(queues) != most:
                self._limits[queues] = most
                self._client.limit(queues, most)

    def _holds(self, source: Source) -> bool:
        return bool(source.epoch) and self._settler.unacked.unsettled_of(source.epoch) > 0

    def bound_memory(self) -> None:
        """Pause while more bytes are unsettled than `--max-bytes`, until it is half of it."""
        held = self._settler.unacked.sent_chunks.bytes
        if not self._max_bytes or self.ending:
            return
        if not self._paused and held > self._max_bytes:
            self._paused = True
            for source in self._sources:
                if source.channel is Channel.CONSUMING:
                    self._stop(source)
        elif self._paused and held <= self._max_bytes // 2:
            self._paused = any(s.channel is Channel.STOPPING for s in self._sources)
            self._resume()

    def _resume(self) -> None:
        for source in self._sources:
            held_back = self._paused or self.ending or source.idle
            if source.channel is Channel.STOPPED and not held_back:
                source.channel = Channel.OPENING
                source.window = source.pace.first(self._client.patience(source.queue))
                self._settler.unacked.resize(source.epoch, source.window)
                self._client.resume(source.queue, source.epoch)

    def _stop(self, source: Source) -> None:
        source.channel = Channel.STOPPING
        self._client.cancel(source.queue, source.epoch)

    def _lose(self, source: Source, event: QueueLost, now: float) -> float:
        self._settler.end(source.epoch)
        permanent = event.fault != Fault.UNREACHABLE
        random = self._context.random
        delay = source.lose(event.cause, permanent, now, random, proven=event.proven)
        if self.ending:
            source.channel = Channel.STOPPED
        return delay


def pace_of(route: RoutePlan, plan: PipelinePlan) -> Pace:
    """The pace of each queue of a route, as long as nothing is known of its handlers."""
    pool = plan.pools[route.pool or route.name]
    sharers = sum(len(other.queues) for other in pool if other.row == route.row)
    return (JobPace if route.tasks else Pace)(
        route.bulk_size,
        max(other.concurrency for other in pool) * route.in_flight,
        route.prefetch,
        sharers,
        ordered=bool(route.order_by),
    )


def rows_of(plan: PipelinePlan) -> dict[tuple[str, ...], int]:
    """The queues of jobs whose handlers take turns, with the number of jobs at once."""
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    slots: dict[tuple[str, str], int] = {}
    for pool, routes in plan.pools.items():
        for route in routes:
            if route.tasks:
                key = (pool, route.row)
                rows[key] = (*rows.get(key, ()), *route.queues)
                slots[key] = pace_of(route, plan).least
    return {queues: slots[key] for key, queues in rows.items()}
