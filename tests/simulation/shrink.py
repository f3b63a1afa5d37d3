"""From a seed that fails to the smallest play that fails alike."""

from __future__ import annotations

from typing import NamedTuple

from tests.simulation.play import NO_LIMITS, Limits, Play
from tests.simulation.stories import Broken

#: Lines of its trace that are shown.
SHOWN = 80


class Failure(NamedTuple):
    """What went wrong in a play."""

    text: str
    play: Play

    @property
    def sort(self) -> str:
        """Failures alike: the invariant, or the class of the error."""
        return self.text.partition(":")[0]


def attempt(seed: int, limits: Limits = NO_LIMITS) -> Failure | None:
    """Play; returns how it failed, if it did."""
    play = Play(seed, limits)
    try:
        play.run()
    except Broken as error:
        return Failure(str(error), play)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", play)
    return None


def shrink(failure: Failure) -> Failure:
    """The same failure with fewer kinds of faults, fewer faults, rounds and messages."""
    for kind in failure.play.faults.rates:
        limits = failure.play.limits
        failure = _try(failure, limits._replace(without=limits.without | {kind})) or failure
    failure = _fewest(failure, failure.play.faults.struck, "faults")
    failure = _fewest(failure, failure.play.scene.rounds, "rounds")
    return _fewest(failure, len(failure.play.witness.stories), "messages")


def _fewest(failure: Failure, most: int, what: str) -> Failure:
    """Halve while it fails, then take away one by one."""
    halving = True
    while most > 0:
        fewer = most // 2 if halving else most - 1
        limits = failure.play.limits._asdict() | {what: fewer}
        if found := _try(failure, Limits(**limits)):
            failure, most = found, fewer
        elif halving:
            halving = False
        else:
            break
    return failure


def _try(failure: Failure, limits: Limits) -> Failure | None:
    found = attempt(failure.play.seed, limits)
    return found if found and found.sort == failure.sort else None


def told(failure: Failure) -> str:
    """A failure for people: how to see it again, and the smallest play of it."""
    small = shrink(failure)
    seed = failure.play.seed
    test = "tests/simulation/test_simulation.py"
    return "\n".join((
        small.play.stage.told(SHOWN),
        f"{failure.play}",
        f"shrunk to: {small.play.limits}, faults: {small.play.faults}",
        f"first: {failure.text}",
        f"shrunk: {small.text}",
        f"replay: CALLBOARD_SEEDS={seed}-{seed} python -m pytest {test}",
    ))  # fmt: skip
