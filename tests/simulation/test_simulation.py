"""Whole systems under random faults. `CALLBOARD_SEEDS=20000` plays more of them,
`CALLBOARD_SEEDS=4711-4711` a certain one."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.simulation.play import Play
from tests.simulation.scene import WORLDS
from tests.simulation.seeds import chosen, played
from tests.simulation.shrink import attempt, told

SEEDS = 1000

#: Failures that are shrunk and shown.
SHOWN = 3


def test_whatever_happens_no_message_is_lost_and_all_drains() -> None:
    failures = (attempt(seed) for seed in played(chosen("CALLBOARD_SEEDS", SEEDS)))
    shown = [told(failure) for failure in islice(failures, SHOWN) if failure]
    if shown:
        pytest.fail("\n\n".join(shown), pytrace=False)


@pytest.mark.parametrize("world", WORLDS)
def test_a_seed_plays_the_same_again(world: str) -> None:
    seed = next(seed for seed in range(1000) if Play(seed).scene.world == world)
    first, second = Play(seed), Play(seed)
    first.run()
    second.run()
    assert first.stage.told(10_000) == second.stage.told(10_000)
