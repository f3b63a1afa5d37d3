"""What a broker, a spool and a server of streams have in common."""

from __future__ import annotations

import heapq
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from random import Random
from typing import Any

from actors.plan.plan import PipelinePlan
from actors.roles.port import ConnectionClient
from tests.simulation.faults import Faults
from tests.simulation.invariants import Witness
from tests.simulation.scene import Scene


class Peer(ABC):
    """The world that the connection of a play reaches, with a clock and troubles of its own."""

    def __init__(self, scene: Scene, faults: Faults, witness: Witness, random: Random) -> None:
        self.scene = scene
        self.faults = faults
        self.witness = witness
        self.random = random
        self.now = 0.0
        self.reachable = True
        self.revoked = 0  #: deliveries that it took from a consumer that was too slow
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # ── time ──────────────────────────────────────────────────────────────────

    def at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (when, next(self._order), call))

    def tick(self, now: float) -> None:
        self.now = now
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def due(self) -> float | None:
        return self._timers[0][0] if self._timers else None

    def lag(self) -> float:
        """Seconds that something takes on its way."""
        return 3.0 * self.random.random() if self.faults.strikes("lag") else 0.0

    # ── what happens to it ────────────────────────────────────────────────────

    def begin(self) -> AbstractContextManager[Any]:
        """For as long as the play lasts."""
        return nullcontext()

    @abstractmethod
    def client(self, plan: PipelinePlan) -> ConnectionClient:
        """What a connection reaches it by."""

    @abstractmethod
    def put(self, number: int, key: str, queue: str) -> None:
        """A message comes into the world."""

    @abstractmethod
    def suffer(self, kind: str) -> None:
        """A fault strikes."""

    @abstractmethod
    def give_up(self) -> None:
        """It has not heard of the connection for too long."""

    @abstractmethod
    def left(self) -> list[int]:
        """Messages that wait or are in somebody's hands."""

    def round(self) -> None:
        """What befalls it in the next while."""
        self.reachable = not self.faults.strikes("unreachable")

    def rest(self) -> None:
        """No more troubles."""
        self.reachable = True
