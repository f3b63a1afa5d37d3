"""The queues that a connection consumes: the states of their channels, and how much of each is
unsettled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from random import Random

from actors.logic.supervision.restart import HEALTHY, Backoff

#: Seconds of work that may be unsettled; more hides no latency of any broker.
HELD = 2.0
#: The part of the broker's patience that it may be, where order asks for more than that.
PART = 4
#: Seconds between two changes; the first comes as soon as the pace is known.
PAUSE_S = 1.0


class Pace:
    """The deliveries of one queue that may be unsettled, by the pace of its handlers."""

    def __init__(
        self, bulk: int, slots: int, most: int, sharers: int = 1, *, ordered: bool
    ) -> None:
        self.slots = slots  #: bulks at once, in all processes
        self.most = most  #: the prefetch
        self._bulk = bulk
        self.sharers = sharers  #: queues whose bulks take turns in these slots
        self.ordered = ordered  #: the more is in view, the more keys are worked on at once
        self.cost: float | None = None  #: seconds of a slot for a delivery, learnt
        self._changed = -inf

    def __str__(self) -> str:
        if self.cost is None:
            return "its handlers have not answered yet"
        return f"its handlers take {self.cost:.2g} s a message, {self.slots} at once"

    @property
    def least(self) -> int:
        """Two bulks for each slot."""
        return min(self.most, 2 * self._bulk * self.slots)

    def first(self, patience: float) -> int:
        """The window that a queue is consumed with, before it is widened."""
        return self.most if patience == inf else self.least

    def alone(self, patience: float) -> int:
        """The window of a queue that cannot be widened: one with a single active consumer.

        What no handler has begun in time goes back, but not where that would break an order.
        """
        return self.wanted(patience) if self.ordered else self.most

    def learn(self, deliveries: int, seconds: float) -> None:
        """Learn from the time that handlers took for some deliveries."""
        if deliveries:
            cost = max(1e-6, seconds / deliveries)
            self.cost = cost if self.cost is None else self.cost + (cost - self.cost) / 4

    def begun_within(self, patience: float) -> float:
        """The age at which a delivery that no handler has begun goes back to its queue.

        Half of the patience is left for its bulk; more, where the bulks of late took more.
        """
        takes = self._bulk * (self.cost or 0.0)
        return min(patience / 2, max(patience / PART, patience - takes))

    def wanted(self, patience: float) -> int:
        """The deliveries that fit a world which waits `patience` seconds for a settlement."""
        if patience == inf:
            return self.most
        if self.cost is None:
            return self.most if self.ordered else self.least
        held = patience / PART if self.ordered else min(HELD, patience / PART)
        fitting = held * self.slots / (self.cost * self.sharers)
        return self.most if fitting >= self.most else max(self.least, int(fitting))

    def change(self, window: int, unsettled: int, patience: float, now: float) -> int:
        """The next window; the same where a change is not worth it.

        It changes by no less than half, and from a wider one to the least at first, once
        that is all there is: so never more is unsettled than a window allows.
        """
        wanted = self.wanted(patience)
        if wanted == window or now < self._changed + PAUSE_S:
            return window
        if window > self.least:
            if window // 2 < wanted < min(2 * window, self.most):
                return window
            wanted = self.least
        elif unsettled > window or (wanted < 2 * window and wanted < self.most):
            return window
        self._changed = now
        return wanted


#: Seconds of a job from which on none is held that no handler can begin at once.
SLOW_JOB_S = 0.05
#: Seconds of work that may be held of shorter ones, and how many of them at the most.
JOBS_HELD_S = 0.2
JOBS_MAX = 1024


class JobPace(Pace):
    """The jobs of one queue that may be in hand: none waits here behind another that takes long,
    while somebody elsewhere has nothing to do."""

    @property
    def least(self) -> int:
        """As many as handlers can begin at once."""
        return self.slots * self._bulk

    def first(self, patience: float) -> int:
        return self.wanted(patience)

    def alone(self, patience: float) -> int:
        return self.least

    def wanted(self, patience: float) -> int:
        if self.cost is None or self.cost >= SLOW_JOB_S:
            return self.least
        return max(self.least, min(JOBS_MAX, int(JOBS_HELD_S * self.slots / self.cost)))

    def learn(self, deliveries: int, seconds: float) -> None:
        """One that takes long counts at once: those behind it wait already."""
        if deliveries and seconds / deliveries >= SLOW_JOB_S:
            self.cost = max(self.cost or 0.0, seconds / deliveries)
        else:
            super().learn(deliveries, seconds)

    def change(self, window: int, unsettled: int, patience: float, now: float) -> int:
        wanted = self.wanted(patience)
        return window if window / 1.5 < wanted < window * 1.5 else wanted


#: Seconds until a queue is tried again that is refused or missing.
REFUSED_RETRY_S = 60.0


class Channel(StrEnum):
    """The state of a queue's channel."""

    IDLE = "idle"  #: there is none
    OPENING = "opening"
    CONSUMING = "consuming"
    STOPPING = "stopping"
    STOPPED = "stopped"  #: it still settles, but fetches no more


@dataclass(slots=True)
class Source:
    """One queue."""

    queue: str
    route: str
    pace: Pace
    window: int = 0  #: deliveries that may be unsettled now
    fixed: bool = False  #: the window of its channel cannot be widened
    channel: Channel = Channel.IDLE
    epoch: int = 0  #: of its channel; 0: there is none
    since: float = 0.0  #: consuming
    reason: str = ""  #: why it lost its last channel
    retry_at: float = 0.0
    told: float = -inf  #: when it was last said that its deliveries wait for too long
    idle: bool = False  #: nobody can work on what it brings: it is to bring nothing
    ready: int | None = None  #: deliveries, when the world was last asked
    jobs: tuple[tuple[str, int], ...] = ()  #: by status, then
    empty: bool = False  #: as far as the world told, and nothing came since
    backoff: Backoff = field(default_factory=Backoff)

    def consumes(self, now: float) -> None:
        self.channel, self.reason, self.since, self.empty = Channel.CONSUMING, "", now, False

    def measured(self, ready: int) -> None:
        self.ready, self.empty = ready, ready == 0

    def lose(
        self, cause: str, permanent: bool, now: float, random: Random, *, proven: bool = False
    ) -> float:
        """Its channel is gone; returns the seconds until it may have another."""
        lived = now - self.since if self.channel is Channel.CONSUMING else 0.0
        if proven:
            lived = HEALTHY
        self.channel, self.epoch, self.reason = Channel.IDLE, 0, cause
        delay = self.backoff.fail(lived, random)
        if permanent:
            delay = REFUSED_RETRY_S
        self.retry_at = now + delay
        return delay


class Sources:
    """All queues; epochs count their channels and are never reused."""

    def __init__(self, sources: Iterable[Source] = ()) -> None:
        self._sources = {source.queue: source for source in sources}
        self._last_epoch = 0

    def __iter__(self) -> Iterator[Source]:
        return iter(self._sources.values())

    def __getitem__(self, queue: str) -> Source:
        return self._sources[queue]

    def living(self, queue: str, epoch: int) -> Source | None:
        """The source, if the epoch is its live one."""
        source = self._sources[queue]
        return source if source.epoch == epoch else None

    def all(self, channel: Channel) -> bool:
        return all(source.channel is channel for source in self)

    def to_open(self, served: Collection[str], now: float) -> Iterator[Source]:
        """Queues that may have a channel now, each with its new epoch."""
        for source in self:
            if source.channel is Channel.IDLE and source.route in served and now >= source.retry_at:
                self._last_epoch += 1
                source.channel, source.epoch = Channel.OPENING, self._last_epoch
                yield source

    def due(self) -> list[float]:
        """When queues without a channel are to be tried."""
        return [source.retry_at for source in self if source.channel is Channel.IDLE]
