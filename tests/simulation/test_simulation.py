"""Whole systems under random faults. `CALLBOARD_SEEDS=20000` plays more of them,
`CALLBOARD_SEEDS=4711-4711` a certain one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.simulation.play import Play

SEEDS = 200
IN_ONE_TEST = 25


def chosen() -> range:
    """Which seeds are to be played."""
    first, _, last = os.environ.get("CALLBOARD_SEEDS", str(SEEDS)).rpartition("-")
    return range(int(first), int(last) + 1) if first else range(int(last))


def portions() -> list[range]:
    seeds = chosen()
    return [seeds[start : start + IN_ONE_TEST] for start in range(0, len(seeds), IN_ONE_TEST)]


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """What is logged of a thousand faults says nothing that the trace does not."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seeds", portions(), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_whatever_happens_no_message_is_lost_and_all_drains(seeds: range) -> None:
    for seed in seeds:
        play = Play(seed)
        try:
            play.run()
        except Exception as error:
            replay = f"CALLBOARD_SEEDS={seed}-{seed} python -m pytest {__file__}"
            trace = "\n".join(play.system.stage.trace[-60:])
            pytest.fail(f"{error}\n{trace}\n{play}\nreplay: {replay}")


def test_a_seed_plays_the_same_again() -> None:
    first, second = Play(7), Play(7)
    first.run()
    second.run()
    assert first.system.stage.trace == second.system.stage.trace
