"""The scenes: how the queue is filled, what the handler does, what is measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import process
from benchmarks.runner import Run
from benchmarks.setting import Setting

Figures = dict[str, float]

LIMIT, OURS, MANY, EACH = "bare socket", "callboard", "pika, ack each 256th", "pika, ack each"
PEERS = ("aio-pika", "async-worker", "FastStream", "Dramatiq", "Celery")
QUEUES = (LIMIT, OURS, MANY, EACH, *PEERS)
ASYNC = (OURS, *PEERS)  #: that have several calls of a handler at once
OWN_OUTCOMES = (OURS, MANY, EACH, "aio-pika", "async-worker", "FastStream")
SPOOLS = ("callboard, spool", "huey, SQLite", "RQ, worker", "RQ, simple worker")
STREAMS = ("callboard, event stream", "httpx-sse", "sseclient-py")

WARM_UP = 6  #: the first sixth of all latencies does not count
SETTLE = 1.0  #: seconds after which an idle worker has nothing more to set up
IDLE = 4.0  #: seconds over which the CPU of an idle worker is measured


@dataclass(frozen=True)
class Scene:
    """`measure` gives the figures of one run; `metrics` says what they are."""

    key: str
    title: str
    setting: Setting
    workers: tuple[str, ...]
    measure: Callable[[Run], Figures]
    metrics: dict[str, str]


# ── what is measured ───────────────────────────────────────────────────────────


def rate(run: Run) -> Figures:
    """All is there; from the first call of the handler until so many are done with.

    There are two bulks more than that: a last one that is not full would wait for company.
    """
    put = run.fill(run.setting.messages + 2 * run.setting.bulk * run.setting.routes)
    run.start()
    run.wait(1)
    before, begun = process.cpu(run.pid), run.done()[0]
    run.wait(run.setting.deliveries)
    count, first, last = run.done()
    cpu = (process.cpu(run.pid) - before) / max(1, count - begun)
    return {"rate": count / (last - first), "put": put, "cpu": cpu * 1e6}


def latency(run: Run) -> Figures:
    """From the call that publishes to the handler, once the worker is warm."""
    run.start()
    run.fill(1)
    run.wait(1)
    run.fill(run.setting.messages)
    run.wait(run.setting.messages + 1)
    delays = [delay * 1e3 for _, delay in run.delays()]
    quantiles = statistics.quantiles(delays[len(delays) // WARM_UP :], n=100)
    return {"p50": quantiles[49], "p99": quantiles[98]}


def footprint(run: Run) -> Figures:
    """Start-up with one bulk in the queue, then idle, then under load."""
    setting = run.setting
    run.fill(setting.bulk)
    run.start()
    run.wait(setting.bulk)
    first = run.done()[1] - run.began
    time.sleep(SETTLE)
    idle = process.pss(run.pid)
    before = process.cpu(run.pid)
    time.sleep(IDLE)
    cpu = (process.cpu(run.pid) - before) / IDLE * 100
    run.fill(setting.messages)
    peak = idle

    def look() -> None:
        nonlocal peak
        peak = max(peak, process.pss(run.pid))
        time.sleep(0.2)

    run.wait(setting.bulk + setting.messages, look)
    return {"first": first, "idle": idle, "load": peak, "cpu": cpu}


# ── the scenes ─────────────────────────────────────────────────────────────────

RATE = {"rate": "messages/s", "cpu": "CPU each, µs"}
PUT = {"put": "put/s", "rate": "handled/s", "cpu": "CPU each, µs"}
LATENCY = {"p50": "p50, ms", "p99": "p99, ms"}
FOOTPRINT = {
    "first": "first message, s", "idle": "PSS idle, MiB", "load": "PSS under load, MiB",
    "cpu": "CPU idle, %",
}  # fmt: skip

SCENES = (
    Scene("a-120", "A handler that does nothing, 120 bytes",
          Setting(), QUEUES, rate, RATE),
    Scene("a-read", "The same, and the handler reads every body",
          Setting(read=True), (LIMIT, OURS, MANY, EACH, *PEERS), rate, RATE),
    Scene("a-1k", "1 KiB",
          Setting(messages=25_600, size=1024), QUEUES, rate, RATE),
    Scene("a-64k", "64 KiB",
          Setting(messages=2560, size=65_536, prefetch=512), QUEUES, rate, RATE),
    Scene("b", "One message at a time",
          Setting(messages=25_600, bulk=1), QUEUES, rate, RATE),
    Scene("c", "1 ms of CPU a message, two handler processes where there can be two",
          Setting(messages=2560, processes=2, cpu=0.001),
          (OURS, MANY, EACH, *PEERS), rate, RATE),
    Scene("d", "An async handler that awaits 10 ms a bulk of 32, 16 calls at once",
          Setting(messages=25_600, bulk=32, calls=16, wait=0.01, prefetch=1024),
          ASYNC, rate, RATE),
    Scene("d-1", "The same one message at a time, 256 calls at once",
          Setting(messages=10_240, bulk=1, calls=256, wait=0.01, prefetch=512),
          ASYNC, rate, RATE),
    Scene("e", "From publish to handler, one message at a time, 100 a second",
          Setting(messages=300, bulk=1, rate=100.0), (OURS, MANY, EACH, *PEERS),
          latency, LATENCY),
    Scene("f", "One message in twenty rejected, one requeued once",
          Setting(outcomes=True), OWN_OUTCOMES, rate, RATE),
    Scene("g-1", "One route", Setting(prefetch=512), (OURS, "aio-pika"), rate, RATE),
    Scene("g-10", "10 routes in one app, one pool of a process",
          Setting(prefetch=512, routes=10, pool="all"), (OURS, "aio-pika"), rate, RATE),
    Scene("g-50", "50 routes in one app, one pool of a process",
          Setting(prefetch=512, routes=50, pool="all"), (OURS, "aio-pika"), rate, RATE),
    Scene("h", "The spool: put one at a time, then handled",
          Setting(), SPOOLS, rate, PUT),
    Scene("i", "Events of a stream",
          Setting(messages=102_400), STREAMS, rate, {"rate": "events/s", "cpu": "CPU each, µs"}),
    Scene("j", "Start-up, memory and idle CPU of the whole system, two handler processes",
          Setting(messages=25_600, processes=2), (OURS, EACH, *PEERS), footprint, FOOTPRINT),
)  # fmt: skip
