"""A contender of `benchmarks.tasks`, in its own environment: puts jobs, and waits for them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

LONG, SHORT, SHORTS = 5.0, 0.1, 50
LIMIT = 180.0  #: seconds for anything


def drive(
    arguments: Sequence[str],
    put: Callable[[list[float]], object],
    put_one: Callable[[], object],
    done: Callable[[], int],
) -> None:
    """In the environment of a contender: `put N`, `fair`, `wait N`, or `each N`; prints seconds."""
    what, count = arguments[1], int(arguments[2])
    if what == "put":
        put([0.0] * count)
        return
    if what == "fair":
        put([LONG] + [SHORT] * SHORTS)
        return
    began = time.monotonic()
    if what == "each":
        for _ in range(count):
            put_one()
    else:
        first = 0
        while not (first := done()):
            time.sleep(0.001)
        began = time.monotonic()
        if count == 1 + SHORTS:  # of the fair ones the begin is what counts
            began -= SHORT
            first = 0
        while done() < count:
            time.sleep(0.01)
            if time.monotonic() > began + LIMIT:
                raise TimeoutError(f"{done():,} of {count:,}")
        count -= first
    sys.stdout.write(f"{(time.monotonic() - began) / max(1, count)}\n")
