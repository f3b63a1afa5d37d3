"""Tasks that misbehave in every way, for whole workers."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from typing import Any

from actors import App, JobContext, Retry, TaskActor, Unique

app = App()


@app.task("add")
def add(a: int, b: int) -> int:
    return a + b


@app.task("pid", queue="add")
def pid() -> int:
    return os.getpid()


@app.task("div")
def div(a: float, b: float) -> float:
    return a / b


@app.task("spin", timeout=1, grace=1)
def spin() -> None:
    while True:
        pass


@app.task("deaf", timeout=1, grace=1)
def deaf() -> None:
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            continue


@app.task("native", timeout=1, grace=1)
def native() -> None:
    """Holds the interpreter, so that nothing else of its process runs."""
    ctypes.PyDLL(None).sleep(60)


@app.task("clings", timeout=1, grace=1)
async def clings() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


@app.task("sleeps", concurrency=1, in_flight=1)
async def sleeps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awake"


@app.task("naps", pool="naps", concurrency=1)
def naps(seconds: float, name: str = "") -> str:
    time.sleep(seconds)
    return name


@app.task("walks", timeout=30)
async def walks(ctx: JobContext, steps: int, seconds: float) -> int:
    for step in range(1, steps + 1):
        await asyncio.sleep(seconds / steps)
        ctx.progress(step / steps, f"step {step}")
    return steps


@app.task("index", unique=Unique("{user}"))
async def index(user: str, seconds: float = 0.0, fail: bool = False) -> str:
    await asyncio.sleep(seconds)
    if fail:
        raise ValueError(user)
    return user


@app.task("flaky", retry=Retry(attempts=3, delays=[1, 2], jitter=False))
def flaky() -> None:
    raise ConnectionError("away")


@app.task("crashes")
def crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@app.task("once", at_most_once=True, concurrency=1)
def once(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")
    time.sleep(30)


@app.task("slow_start", concurrency=1)
class Counts(TaskActor):
    def on_start(self) -> None:
        self.served = 0

    def run(self, ctx: JobContext) -> dict[str, Any]:
        self.served += 1
        return {"served": self.served, "worker": ctx.worker}


@app.task("secretive", secret=("password",))
def secretive(user: str, password: str) -> None:
    raise RuntimeError(user)
