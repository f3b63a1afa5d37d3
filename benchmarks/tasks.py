"""Jobs with results beside huey and RQ: how fast, how fair, and what a caller pays.

    python -m benchmarks.tasks [--runs 5] [--jobs 6000]

t-2  jobs that do nothing, results stored, two worker processes: jobs a second
t-7  two processes, a job of 5 s, then 50 of 0.1 s: makespan, as a multiple of the ideal
t-8  one caller puts jobs one by one, each on the disk: jobs a second

In each run all take turns. RQ's Redis writes nothing to the disk; huey's SQLite and the spool do.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.driving import LIMIT, LONG, SHORT, SHORTS
from benchmarks.places import redis
from benchmarks.workers import PROGRAMS, ROOT, WORKERS

IDEAL = max(LONG, (LONG + SHORT * SHORTS) / 2)  #: seconds
PUTS = 300

#: What is started, how often, and the share of the jobs that it is given.
CONTENDERS: dict[str, tuple[str, str, int, float]] = {
    "callboard": ("tasks_app.py", "-m actors run tasks_app:app --name tasks", 1, 1.0),
    "huey, SQLite": (
        "tasks_huey.py", "-m huey.bin.huey_consumer tasks_huey.huey -w 2 -k process", 1, 0.2,
    ),
    "RQ, simple worker": (
        "tasks_rq.py", "-m rq.cli worker --quiet --worker-class rq.worker.SimpleWorker", 2, 0.1,
    ),
    "RQ, worker": ("tasks_rq.py", "-m rq.cli worker --quiet", 2, 0.02),
}  # fmt: skip


class Contender:
    """One of them, in a directory of its own."""

    def __init__(self, name: str, redis_url: str, directory: Path) -> None:
        self.script, self.program, self.times, self.share = CONTENDERS[name]
        ours = name == "callboard"
        self._python = sys.executable if ours else WORKERS[name].python()
        self._environment = {
            **os.environ,
            "DIRECTORY": str(directory),
            "RQ_REDIS_URL": redis_url,
            "CALLBOARD_CONNECTION": f"spool://{directory}/spool.db",
            "CALLBOARD_RUNTIME_DIR": str(directory),
            "CALLBOARD_STATE_DIR": str(directory),
            "CALLBOARD_ADMIN_PORT": "0",
            "PYTHONPATH": f"{ROOT}:{PROGRAMS}",
        }
        self._log = directory / "log"

    def ask(self, what: str, count: int) -> float:
        """What its script measures."""
        told = subprocess.check_output(
            [self._python, str(PROGRAMS / self.script), what, str(count)],
            env=self._environment, cwd=PROGRAMS, text=True, timeout=LIMIT + 20,
        )  # fmt: skip
        return float(told or 0)

    @contextmanager
    def working(self) -> Iterator[None]:
        """With its workers."""
        with self._log.open("ab") as log:
            workers = [
                subprocess.Popen(
                    [self._python, *self.program.split()], env=self._environment, cwd=PROGRAMS,
                    stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                )
                for _ in range(self.times)
            ]  # fmt: skip
        try:
            yield
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGINT if "huey" in self.script else signal.SIGTERM)
            for worker in workers:
                try:
                    worker.wait(15)
                except subprocess.TimeoutExpired:
                    os.killpg(worker.pid, signal.SIGKILL)
                    worker.wait()


def measure(name: str, jobs: int) -> dict[str, float]:
    """The figures of one contender in one run."""
    figures: dict[str, float] = {}
    with redis() as url, tempfile.TemporaryDirectory() as folder:
        contender = Contender(name, url, Path(folder))
        count = max(50, int(jobs * contender.share))
        contender.ask("put", count)
        with contender.working():
            figures["t-2"] = 1 / contender.ask("wait", count)
    with redis() as url, tempfile.TemporaryDirectory() as folder:
        contender = Contender(name, url, Path(folder))
        contender.ask("fair", 0)
        with contender.working():
            spent = contender.ask("wait", 1 + SHORTS) * (1 + SHORTS)
            figures["t-7"] = spent / IDEAL
    with redis() as url, tempfile.TemporaryDirectory() as folder:
        contender = Contender(name, url, Path(folder))
        figures["t-8"] = 1 / contender.ask("each", PUTS)
    return figures


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=6000)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(options.runs):
        for name in CONTENDERS:
            runs[name].append(measure(name, options.jobs))
            say(
                f"{name}: "
                + ", ".join(f"{key} {value:,.4g}" for key, value in runs[name][-1].items())
            )
    say(f"\n| | {' | '.join(CONTENDERS)} |")
    say("|---|" + "---|" * len(CONTENDERS))
    for key in ("t-2", "t-7", "t-8"):
        cells = []
        for name in CONTENDERS:
            values = [run[key] for run in runs[name]]
            low, middle, high = min(values), statistics.median(values), max(values)
            cells.append(f"{middle:,.4g} ({low:,.4g} to {high:,.4g})")
        say(f"| {key} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
