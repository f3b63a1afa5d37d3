"""Which faults strike in a play, and when: all drawn from one seed."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

#: More than there ever are.
ALL = 1_000_000

#: The highest rate of each kind of fault, at the moment that is given with it.
KINDS = {
    # for each message between actors
    "lose": 0.2,
    "repeat": 0.3,
    "swap": 0.3,
    "delay": 0.2,
    # for each exit notice
    "told twice": 1.0,
    # for each step
    "kill": 0.02,
    "hang": 0.01,
    "reset": 0.02,
    "half open": 0.01,
    "cancel": 0.02,
    "crash": 0.01,  # of the peer
    # for each start of a handler
    "no start": 0.3,
    # for each write to the peer and each chunk from it
    "lag": 0.5,
    "small chunk": 1.0,
    # for each copy
    "refused": 0.5,
    "unconfirmed": 0.3,
    # for each round of a play
    "unreachable": 0.5,
    "stall": 0.3,
    "wrong clock": 0.3,
    # for each message: no copy of it can ever be made, faults or none
    "unfit": 0.3,
}  # fmt: skip

#: What keeps a handler's word from its connection: what it had may have failed.
SILENCE = {"lose", "delay", "kill", "hang"}

#: What happens between actors alone, and on time: the world takes nothing back. A chunk that is
#: given up, and then comes after all, may be handled and come again.
BETWEEN_ACTORS = {"lose", "repeat", "swap", "told twice", "no start", "lag", "small chunk"}


class Faults:
    """Swarm: each seed enables some kinds at rates of its own.

    Each kind has dice of its own, so that a play without one kind meets the others alike.
    Kinds may be left out, and no more than so many strike.
    """

    def __init__(self, seed: int, without: Collection[str] = (), most: int = ALL) -> None:
        random = Random(seed)
        drawn = {kind: (random.random(), random.random()) for kind in KINDS}
        self.rates = {
            kind: KINDS[kind] * rate * rate
            for kind, (luck, rate) in drawn.items()
            if luck < 0.35 and kind not in without
        }
        self.struck = 0
        self._most = most
        self._dice = {kind: Random(f"{seed} {kind}").random for kind in self.rates}

    def strikes(self, kind: str) -> bool:
        """Whether a fault of this kind comes now."""
        dice = self._dice.get(kind)
        if dice is None or dice() >= self.rates[kind]:
            return False
        if self.struck >= self._most:
            return False
        self.struck += 1
        return True

    @property
    def live(self) -> bool:
        """Whether any may still come."""
        return bool(self._dice)

    def any_of(self, kinds: Collection[str]) -> bool:
        """Whether a fault of these kinds may come at all."""
        return any(kind in self.rates for kind in kinds)

    def end(self) -> None:
        """No more faults."""
        self._dice.clear()

    def __str__(self) -> str:
        return ", ".join(f"{kind} {rate:.3f}" for kind, rate in self.rates.items()) or "none"
