"""A contender of `benchmarks.calls`, in its own environment: calls, and says how long it took."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

WARM_UP, ONE_BY_ONE, AT_ONCE = 30, 300, 256


def told(delays: list[float], count: int, seconds: float) -> None:
    """Prints the figures: milliseconds of single calls, and calls a second of many at once."""
    quantiles = statistics.quantiles([delay * 1e3 for delay in delays], n=100)
    figures = {"p50": quantiles[49], "p99": quantiles[98], "rate": count / seconds}
    sys.stdout.write(json.dumps(figures) + "\n")


async def drive(call: Callable[[int], Awaitable[object]], count: int) -> None:
    """`call` for itself, one after the other; then so many, 256 at once."""
    delays = []
    for number in range(WARM_UP + ONE_BY_ONE):
        begun = time.perf_counter()
        await call(number)
        if number >= WARM_UP:
            delays.append(time.perf_counter() - begun)
    free = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with free:
            await call(number)

    await asyncio.gather(*(one(number) for number in range(AT_ONCE)))
    begun = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(count)))
    told(delays, count, time.perf_counter() - begun)
