"""What the whole running words system takes in memory, idle and under load.

    python -m benchmarks.memory [--rabbitmq] [--words 100000]

The system is `callboard run handlers.words:app` on a spool of its own, or on a private
RabbitMQ node. What is summed is the proportional set size (PSS) of each of its processes, from
/proc/PID/smaps_rollup: pages that several share are counted once in the sum. "Under load" is
the sample with the largest sum while words are put and indexed; "after" is idle again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import click

from actors.publisher import Publisher
from handlers.words import Word, words

BAR = 120.0  #: MiB that the sum should stay under
APP, QUEUE = "handlers.words:app", "words_to_index"
PATIENCE = 60.0  #: seconds for the system to be ready, and to end
SETTLE = 2.0  #: seconds after which an idle system has nothing more to set up

Sample = dict[int, float]  #: MiB by pid


class System:
    """The words app in processes of its own."""

    def __init__(self, directory: Path, url: str) -> None:
        self.url = url
        self._environment = os.environ | {
            "CALLBOARD_STATE_DIR": str(directory),
            "CALLBOARD_RUNTIME_DIR": str(directory / "run"),
        }
        with (directory / "log").open("wb") as log:
            self.process = self._start("run", APP, "--connection", url, stdout=log, stderr=log)

    def put(self, count: int) -> None:
        bodies = [Word(id=n, word=w).model_dump_json().encode() for n, w in enumerate(words(count))]
        with Publisher(self.url) as publisher:
            publisher.put_many(QUEUE, bodies)

    def status(self) -> dict[str, Any]:
        """The report, by a process that has ended when this returns; empty before there is one."""
        output, _ = self._start(
            "status", "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ).communicate()
        return json.loads(output) if output else {}

    def wait(self) -> dict[str, Any]:
        """The report, once it is ready."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            report = self.status()
            if report.get("ready"):
                return report
            time.sleep(0.1)
        sys.exit("the words system does not get ready")

    def sample(self) -> Sample:
        return {pid: pss(pid) for pid in family(self.process.pid)}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)

    def _start(self, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "actors", *arguments]
        return subprocess.Popen(command, env=self._environment, **streams)


def pss(pid: int) -> float:
    """The proportional set size in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no Pss of {pid}")


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def names(report: dict[str, Any], pids: list[int]) -> dict[int, str]:
    """What each process is; what plays no actor is the launcher and Thespian's admin."""
    known = {actor["pid"]: f"{actor['role']} {actor['name']}" for actor in report["actors"]}
    others = iter(("launcher", "Thespian's admin"))
    return {pid: known.get(pid) or next(others) for pid in sorted(pids)}


@contextmanager
def _connection(rabbitmq: bool) -> Iterator[str]:
    if not rabbitmq:
        yield "spool:"
        return
    from tests.broker import Admin, Broker

    broker = Broker()
    try:
        Admin(broker, "/").declare(QUEUE)
        yield f"amqp://{broker.user}:{broker.password}@{broker.host}:{broker.port}/"
    finally:
        broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rabbitmq", action="store_true")
    parser.add_argument("--words", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, _connection(options.rabbitmq) as url:
        os.environ["CALLBOARD_STATE_DIR"] = directory  # where "spool:" is, for us too
        system = System(Path(directory), url)
        try:
            measure(system, options.words)
        finally:
            system.stop()


def measure(system: System, count: int) -> None:
    report = system.wait()
    time.sleep(SETTLE)
    idle = system.sample()
    putting = Thread(target=system.put, args=(count,))
    putting.start()
    samples = []
    while system.status()["totals"]["acked"] < count:
        samples.append(system.sample())
    putting.join()
    time.sleep(SETTLE)
    load = max(samples, key=lambda sample: sum(sample.values()))
    show(names(report, list(idle)), {"idle": idle, "under load": load, "after": system.sample()})
    peak = sum(load.values())
    verdict = "under" if peak < BAR else "OVER"
    click.echo(f"\nPSS in MiB; the largest of {len(samples)} samples while {count:,} words came")
    click.echo(f"{peak:.0f} MiB, {verdict} the bar of {BAR:.0f} MiB")


def show(names: dict[int, str], samples: dict[str, Sample]) -> None:
    click.echo(row("process", samples))
    for pid, name in names.items():
        click.echo(row(name, [f"{sample.get(pid, 0.0):.1f}" for sample in samples.values()]))
    click.echo(row("all", [f"{sum(sample.values()):.1f}" for sample in samples.values()]))


def row(head: str, cells: Iterable[str]) -> str:
    return f"{head:<36}" + "".join(f"{cell:>12}" for cell in cells)


if __name__ == "__main__":
    main()
