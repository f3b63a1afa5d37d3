"""Tasks on the embedded spool: run it, call it, watch it.

callboard run handlers.tasks:app --connection spool:.callboard/tasks.db
callboard call thumbnail '{"path": "cat.png"}' --connection spool:.callboard/tasks.db
callboard send count '{"to": 20}' --connection spool:.callboard/tasks.db
callboard jobs list --connection spool:.callboard/tasks.db
"""

from __future__ import annotations

import asyncio
import random

from actors import App, JobContext, Retry

app = App()


@app.task("thumbnail", timeout=10)
def thumbnail(path: str, width: int = 128) -> str:
    """The name of a picture, smaller."""
    stem, dot, kind = path.rpartition(".")
    return f"{stem}-{width}{dot}{kind}" if dot else f"{path}-{width}"


@app.task("count", timeout=600)
async def count(ctx: JobContext, to: int = 10) -> int:
    """Counts, a number a second, and says how far it is."""
    for number in range(1, to + 1):
        await asyncio.sleep(1.0)
        ctx.progress(number / to, f"{number} of {to}")
    return to


@app.task("fetch", retry=Retry(attempts=5, delays=[1, 2, 5]))
def fetch(url: str, luck: float = 0.5) -> str:
    """A request that fails now and then, and is made again."""
    if random.random() > luck:
        raise ConnectionError(f"{url} did not answer")
    return f"what {url} said"
