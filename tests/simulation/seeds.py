"""Many seeds, shared by all cores."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.shrink import attempt

#: Seeds that a process plays before it takes more.
PORTION = 50


def played(seeds: range) -> Iterator[int]:
    """Plays them all; yields those that failed."""
    portions = [seeds[start : start + PORTION] for start in range(0, len(seeds), PORTION)]
    if len(portions) == 1:
        yield from failed(seeds)
        return
    # Spawned, for a test process has threads that a fork would cut off.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, silence) as pool:
        for found in pool.map(failed, portions):
            yield from found


def failed(seeds: Iterable[int]) -> list[int]:
    """Those of the seeds that fail."""
    return [seed for seed in seeds if attempt(seed)]


def chosen(variable: str, count: int) -> range:
    """The seeds that a variable names, `N` or `FIRST-LAST`; without it the first `count`."""
    first, _, last = os.environ.get(variable, str(count)).rpartition("-")
    return range(int(first), int(last) + 1) if first else range(int(last))


def silence() -> None:
    """What is logged of a thousand faults says nothing that the trace does not."""
    logging.disable(logging.CRITICAL)
