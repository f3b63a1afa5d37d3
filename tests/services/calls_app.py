"""Tasks that are called over RabbitMQ, for whole workers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress

from pika.exceptions import ChannelClosedByBroker

from actors import App, JobContext, Retry
from tests.services.worker import BrokerPlace

app = App()


def empty_queues(place: BrokerPlace) -> None:
    """Whatever an earlier worker left; the queues stay, for a quorum queue takes its time to end
    and to begin anew."""
    with place.admin() as admin:
        for task in app.tasks.values():
            for suffix in ("", ".dead", ".retry.1"):
                with suppress(ChannelClosedByBroker):
                    admin.connection.channel().queue_purge(task.queue + suffix)


class NotFoundError(Exception):
    """One that callers get as it is."""


@app.task("add")
def add(a: int, b: int) -> int:
    return a + b


@app.task("div", raises=[NotFoundError])
def div(a: float, b: float) -> float:
    if a < 0:
        raise NotFoundError(a)
    return a / b


@app.task("test", queue="crew.tasks.test")
def wake(req: str = "") -> str:
    return f"Wake up Neo.{len(req)}"


@app.task("echo")
async def echo(text: str) -> str:
    return text


@app.task("sleeps", in_flight=4)
async def sleeps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awake"


@app.task("hangs", timeout=1, grace=0)
def hangs() -> None:
    while True:
        pass


@app.task("dies", max_crashes=1)
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task("walks", timeout=30)
async def walks(ctx: JobContext, steps: int) -> int:
    for step in range(1, steps + 1):
        await asyncio.sleep(0.3)
        ctx.progress(step / steps, f"step {step}")
    return steps


@app.task("flaky", retry=Retry(attempts=3, delays=[1]))
def flaky(ctx: JobContext, times: int) -> int:
    if ctx.attempt <= times:
        raise RuntimeError("not yet")
    return ctx.attempt


@app.task("naps", priorities=9, concurrency=1)
def naps(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.bulk_task("squares", bulk=16, flush=0.02)
def squares(numbers: list[int]) -> list[int]:
    return [number * number for number in numbers]
