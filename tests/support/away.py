"""A system in memory whose broker is not there at first."""

from __future__ import annotations

from collections.abc import Callable

from actors.connectors.memory.world import World
from actors.testing import InMemorySystem


class AwayWorld(World):
    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.reachable = False


class AwaySystem(InMemorySystem):
    world_class = AwayWorld
