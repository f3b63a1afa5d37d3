"""A joined host as a pipeline sees it: what is to live there, and what of that is dead."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from actors.logic.supervision.placement import Offer

#: Seconds without a host's word after which it is lost, and what it held is handed out again.
LOST_AFTER_S = 15.0


@dataclass(slots=True)
class RemoteNode:
    """One joined host, and the assignment of those that are to live there."""

    host: str
    supervisor: str  #: the name of its host supervisor; another start of the host has another
    offers: tuple[Offer, ...]
    heard: float  #: when it last said something
    stay: int  #: counts the times that hosts came
    asked: float = 0.0  #: when it said that, by its own clock: the assignment repeats it
    leaving: bool = False
    number: int = 0  #: of the assignment
    _wanted: dict[str, bool] = field(default_factory=dict)  # by handler, until it is dead
    _fates: dict[str, int] = field(default_factory=dict)  # the assignment that began or ended it

    @property
    def assignment(self) -> tuple[str, ...]:
        return tuple(handler for handler, wanted in self._wanted.items() if wanted)

    def write(self, wanted: Mapping[str, bool], number: int) -> bool:
        """These are to live there, or to be ended, by an assignment of this number if that is
        news."""
        if wanted == self._wanted:
            return False
        new = {name for name, wish in wanted.items() if self._wanted.get(name) is not wish}
        self._fates = {name: number if name in new else self._fates[name] for name in wanted}
        self._wanted, self.number = dict(wanted), number
        return True

    def is_dead(self, handler: str, number: int, living: Collection[str]) -> bool:
        """Whether a host that knows the assignment of this number would name it, if it lived."""
        return handler not in living and self._fates.get(handler, math.inf) <= number

    def lost(self, now: float) -> bool:
        return now - self.heard >= LOST_AFTER_S
