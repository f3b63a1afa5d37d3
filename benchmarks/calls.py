"""Calls over RabbitMQ beside aio-pika, FastStream and Celery.

    python -m benchmarks.calls [--runs 5] [--calls 3000]

t-4  one call after the other of a task that does nothing: milliseconds, p50 and p99
t-5  256 calls at once: calls a second
t-6  256 at once of a model that takes 10 ms a run, in one process; ours is a bulk task: a second

In each run all take turns, on one private broker. Callboard's request is persistent, in a quorum
queue, and confirmed; aio-pika's and FastStream's are confirmed, Celery's is persistent.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.places import rabbitmq
from benchmarks.tasks import say
from benchmarks.workers import PROGRAMS, ROOT, WORKERS

LIMIT = 300.0  #: seconds for one contender's calls
READY = 6.0  #: seconds in which a worker is up

#: What calls, what serves, and the share of the calls that it is given.
CONTENDERS: dict[str, tuple[str, str, float]] = {
    "callboard": ("calls_app.py", "-m actors run calls_app:app --name calls", 1.0),
    "aio-pika": ("calls_aio_pika.py", "calls_aio_pika.py serve", 1.0),
    "FastStream": (
        "calls_faststream.py", "-m faststream run calls_faststream:app --log-level warning", 0.5,
    ),
    "Celery": (
        "calls_celery.py", "-m celery -A calls_celery worker -P prefork -c 1 -l ERROR", 0.3,
    ),
}  # fmt: skip


class Contender:
    """One of them, with its worker."""

    def __init__(self, name: str, url: str, directory: Path) -> None:
        self.script, self._program, self.share = CONTENDERS[name]
        self._python = sys.executable if name == "callboard" else WORKERS[name].python()
        self._environment = {
            **os.environ,
            "URL": url,
            "CALLBOARD_CONNECTION": url,
            "CALLBOARD_RUNTIME_DIR": str(directory),
            "CALLBOARD_STATE_DIR": str(directory),
            "CALLBOARD_ADMIN_PORT": "0",
            "PYTHONPATH": f"{ROOT}:{PROGRAMS}",
        }
        self._log = directory / "log"

    def ask(self, task: str, count: int) -> dict[str, float]:
        """What its calls of a task took."""
        with self._log.open("ab") as log:
            told = subprocess.check_output(
                [self._python, str(PROGRAMS / self.script), task, str(count)],
                env=self._environment, cwd=PROGRAMS, text=True, timeout=LIMIT, stderr=log,
            )  # fmt: skip
        return {key: float(value) for key, value in json.loads(told.splitlines()[-1]).items()}

    @contextmanager
    def working(self) -> Iterator[None]:
        """With its worker."""
        with self._log.open("ab") as log:
            worker = subprocess.Popen(
                [self._python, *self._program.split()], env=self._environment, cwd=PROGRAMS,
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            worker.wait(READY)
        except subprocess.TimeoutExpired:
            pass
        else:
            raise RuntimeError(self._log.read_text())
        try:
            yield
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


def measure(name: str, url: str, calls: int) -> dict[str, float]:
    """The figures of one contender in one run."""
    with tempfile.TemporaryDirectory() as folder:
        contender = Contender(name, url, Path(folder))
        with contender.working():
            nothing = contender.ask("double", int(calls * contender.share))
            model = contender.ask("model", 640 if name != "callboard" else calls)
    return {
        "t-4, p50": nothing["p50"], "t-4, p99": nothing["p99"],
        "t-5": nothing["rate"], "t-6": model["rate"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3000)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    with rabbitmq() as url:
        for _ in range(options.runs):
            for name in CONTENDERS:
                runs[name].append(measure(name, url, options.calls))
                say(f"{name}: " + ", ".join(f"{k} {v:,.4g}" for k, v in runs[name][-1].items()))
    say(f"\n| | {' | '.join(CONTENDERS)} |")
    say("|---|" + "---|" * len(CONTENDERS))
    for key in runs["callboard"][0]:
        cells = []
        for name in CONTENDERS:
            values = [run[key] for run in runs[name]]
            low, middle, high = min(values), statistics.median(values), max(values)
            cells.append(f"{middle:,.4g} ({low:,.4g} to {high:,.4g})")
        say(f"| {key} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
