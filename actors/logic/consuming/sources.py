"""The queues of a connection, and the channel that each is consumed on while it has one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from random import Random

from actors.logic.consuming.pace import Pace
from actors.logic.supervision.restart import HEALTHY, Backoff

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
