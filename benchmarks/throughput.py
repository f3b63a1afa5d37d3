"""Messages a second beside the peers and the limit, in one run, alternating.

    python -m benchmarks.throughput [--messages 20000] [--runs 5] [--bulk 256]

Each worker finds a full classic queue on a private broker and does nothing with what it
gets; its time is from the first message that its code saw to the last. The limit is a bare
socket that counts frames and acknowledges every 256th. Peers run in environments of their
own, made on first use; the settings are those that their documentation shows, with the same
prefetch. Celery and Dramatiq write messages of their own format and run 2 processes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.io_model import Bench, bare_socket, benchmark, say
from benchmarks.tally import DIRECTORY, total

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".callboard" / "peers"
LIMIT = 300.0  #: seconds for one worker


@dataclass(frozen=True)
class Worker:
    """A peer, or the project itself."""

    name: str
    command: Sequence[str]  #: with "python" for the interpreter of its environment
    package: str = ""  #: empty: runs in our own environment
    fill: Sequence[str] = ()  #: publishes messages of its own format


OURS = ("python", "-m", "actors", "run", "benchmarks.noop:app", "--name", "noop")
DRAMATIQ = ("python", "-m", "dramatiq", "dramatiq_app", "--processes", "2", "--threads", "4")
CELERY = ("python", "-m", "celery", "-A", "celery_app", "worker", "-c", "2", "-l", "ERROR")
WORKERS = (
    Worker("callboard", OURS),
    Worker("pika, ack each 256th", ("python", "pika_many.py")),
    Worker("pika, ack each", ("python", "pika_each.py")),
    Worker("aio-pika", ("python", "aio_pika_each.py"), "aio-pika"),
    Worker("async-worker 0.20.2", ("python", "async_worker.py"), "async-worker==0.20.2"),
    Worker("FastStream", ("python", "faststream_each.py"), "faststream[rabbit]"),
    Worker("Dramatiq", DRAMATIQ, "dramatiq[rabbitmq]", ("python", "dramatiq_app.py")),
    Worker("Celery", CELERY, "celery", ("python", "celery_app.py")),
)


def python_of(worker: Worker) -> str:
    """The interpreter of a worker's environment, which is made where it is missing."""
    if not worker.package:
        return sys.executable
    home = ENVIRONMENTS / worker.package.partition("=")[0].partition("[")[0]
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(python), "-m", "pip", "install", "-qq", worker.package]
        subprocess.run(install, check=True)
        (home / "ready").touch()
    return str(python)


def run(worker: Worker, bench: Bench, bulk: int, prefetch: int) -> float:
    """Seconds from the first message to the last."""
    url = f"amqp://guest:guest@127.0.0.1:{bench.broker.port}/{bench.vhost}"
    with tempfile.TemporaryDirectory() as directory:
        tally = Path(directory) / "tally"
        tally.mkdir()
        environment = os.environ | {
            DIRECTORY: str(tally), "URL": url, "PYTHONPATH": str(ROOT),
            "MESSAGES": str(bench.messages), "BULK": str(bulk), "PREFETCH": str(prefetch),
            "CALLBOARD_CONNECTION": url, "CALLBOARD_PREFETCH": str(prefetch),
            "CALLBOARD_STATE_DIR": directory, "CALLBOARD_RUNTIME_DIR": f"{directory}/run",
            "dramatiq_queue_prefetch": str(prefetch // 2),
        }  # fmt: skip
        python = python_of(worker)
        with (Path(directory) / "log").open("w+b") as log:
            if worker.fill:
                fill = [python, *worker.fill[1:]]
                subprocess.run(fill, cwd=PEERS, env=environment, stdout=log, stderr=log, check=True)
            else:
                bench.fill()
            process = subprocess.Popen(
                [python, *worker.command[1:]],
                cwd=PEERS if worker.command is not OURS else ROOT,
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                return wait(process, tally, bench.messages)
            except TimeoutError:
                log.seek(0)
                raise TimeoutError(f"{worker.name}: {log.read()[-2000:].decode()}") from None
            finally:
                end(process)


def wait(process: subprocess.Popen[bytes], tally: Path, messages: int) -> float:
    deadline = time.monotonic() + LIMIT
    while True:
        count, seconds = total(tally)
        if count >= messages:
            return seconds
        if time.monotonic() > deadline or process.poll() is not None:
            raise TimeoutError
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after ten seconds SIGKILL, to all of its processes."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bulk", type=int, default=256)
    parser.add_argument("--prefetch", type=int, default=2048)
    parser.add_argument("--only", nargs="*", default=[], help="names of workers")
    options = parser.parse_args()
    workers = [w for w in WORKERS if not options.only or w.name in options.only]
    for worker in workers:
        python_of(worker)
    rates: dict[str, list[float]] = {w.name: [] for w in workers}
    limits: list[float] = []
    with benchmark(options.messages) as bench:
        for number in range(options.runs):
            bench.fill()
            limits.append(options.messages / bare_socket(bench, False))
            for worker in workers:
                seconds = run(worker, bench, options.bulk, options.prefetch)
                rates[worker.name].append(options.messages / seconds)
                say(f"{number + 1} {worker.name}: {rates[worker.name][-1]:,.0f}/s")
    tell({"bare socket": limits, **rates})


def tell(rates: dict[str, list[float]]) -> None:
    """A table, and the figures as JSON behind it."""
    limit = rates["bare socket"]
    ours = rates.get("callboard", limit)
    say("| worker | messages/s (median) | least to most | of the bare socket | callboard is |")
    say("|---|---|---|---|---|")
    for name, own in rates.items():
        share = statistics.median(a / b for a, b in zip(own, limit, strict=True))
        factor = statistics.median(a / b for a, b in zip(ours, own, strict=True))
        say(
            f"| {name} | {statistics.median(own):,.0f} | {min(own):,.0f} to {max(own):,.0f} "
            f"| {share:.2f} | {factor:.1f} × |"
        )
    say(json.dumps({name: [round(rate) for rate in own] for name, own in rates.items()}))


if __name__ == "__main__":
    main()
