"""What spreading costs: three handlers on one host, and on three, on the same cores.

    python -m benchmarks.spread [--runs 5] [--messages 9600] [--cpu 0.001]

The hosts are network namespaces on one switch, with RabbitMQ on the first. A message takes
its handler a millisecond of CPU; the two ways take turns in each run.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from actors.errors import UnreachableError
from actors.ops import system
from actors.plan.network import fresh_key
from benchmarks.bare import Bare
from benchmarks.job import DIRECTORY, total
from benchmarks.setting import Setting
from benchmarks.workers import PROGRAMS, ROOT
from tests.support.broker import Broker
from tests.support.namespaces import Host, Network

PORT = 7101
HANDLERS = 3
BULK = 64
PATIENCE = 60.0  #: seconds for all handlers to be ready
LIMIT = 120.0  #: seconds for all messages


class Company:
    """One actor system over some hosts, the first of which listens and has the broker."""

    def __init__(self, hosts: list[Host], url: str, setting: Setting, directory: Path) -> None:
        self._directory = directory
        self._url = url
        self._setting = setting
        self._tally = directory / "tally"
        self._tally.mkdir()
        key = directory / "key"
        key.write_text(fresh_key())
        key.chmod(0o600)
        self._leader = hosts[0]
        self._processes = [self._start(host, key) for host in hosts]

    def rate(self) -> float:
        """Messages a second, from the first call of a handler to the end of the last."""
        self._until_ready()
        count = self._setting.messages
        with self._leader:
            bare = Bare(self._url)
            bare.publish(self._setting.queues[0], map(self._setting.body, range(count)))
            bare.declare(self._setting.queues[0])  # what is unread when we close may be dropped
            bare.close()
        deadline = time.monotonic() + LIMIT
        while (done := total(self._tally))[0] < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{done[0]:,} of {count:,}")
            time.sleep(0.05)
        return count / (done[2] - done[1])

    def end(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _start(self, host: Host, key: Path) -> subprocess.Popen[bytes]:
        leader = f"{self._leader.address}:{PORT}"
        how = ["--listen", leader] if host is self._leader else ["--join", leader]
        command = [sys.executable, "-m", "actors", "run", "callboard_app:app", *how]
        command += ["--key-file", str(key), "--host-name", host.name, "--name", "spread"]
        environment = os.environ | self._setting.environment() | {
            DIRECTORY: str(self._tally),
            "PYTHONPATH": str(ROOT),
            "CALLBOARD_CONNECTION": self._url,
            "CALLBOARD_PREFETCH": str(self._setting.prefetch),
            "CALLBOARD_STATE_DIR": str(self._directory / host.name),
            "CALLBOARD_RUNTIME_DIR": str(self._runtime(host)),
        }  # fmt: skip
        with host, (self._directory / f"{host.name}.log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=PROGRAMS, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._handlers() < HANDLERS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._handlers()} of {HANDLERS} handlers are ready")
            time.sleep(0.1)

    def _handlers(self) -> int:
        try:
            with self._leader:
                report = system.status("spread", 2.0, runtime_dir=self._runtime(self._leader))
        except UnreachableError:
            return 0
        actors = (report or {}).get("actors", [])
        return sum(a["role"] == "handler" and a["state"] == "running" for a in actors)

    def _runtime(self, host: Host) -> Path:
        return self._directory / f"{host.name}.run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=9600, help=f"whole bulks of {BULK}")
    parser.add_argument("--cpu", type=float, default=0.001, help="seconds that a message takes")
    options = parser.parse_args()
    setting = Setting(options.messages, bulk=BULK, cpu=options.cpu)
    rates: dict[str, list[float]] = {"one host": [], "three hosts": []}
    with stage() as (hosts, broker):
        for number in range(options.runs):
            for way, count in (("one host", 1), ("three hosts", 3)):
                rates[way].append(play(hosts[:count], broker, setting))
                say(f"{number + 1} {way}: {rates[way][-1]:,.0f}/s")
    ratios = [s / one for one, s in zip(rates["one host"], rates["three hosts"], strict=True)]
    for way, found in rates.items():
        say(f"{way}: {statistics.median(found):,.0f}/s ({min(found):,.0f} to {max(found):,.0f})")
    say(f"spread: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


@contextmanager
def stage() -> Iterator[tuple[list[Host], Broker]]:
    """Three hosts, and a broker on the first."""
    network = Network()
    try:
        hosts = [network.add(name) for name in ("first", "second", "third")]
        with hosts[0]:
            broker = Broker(address=hosts[0].address)
        try:
            yield hosts, broker
        finally:
            broker.stop()
    finally:
        network.close()


def play(hosts: list[Host], broker: Broker, setting: Setting) -> float:
    """One way, once: the same number of handlers, however many hosts."""
    setting = replace(setting, processes=HANDLERS // len(hosts))
    url = f"amqp://guest:guest@{hosts[0].address}:{broker.port}/%2F"
    with hosts[0]:
        bare = Bare(url)
        bare.delete(setting.queues[0])
        bare.declare(setting.queues[0])
        bare.close()
    with tempfile.TemporaryDirectory() as directory:
        company = Company(hosts, url, setting, Path(directory))
        try:
            return company.rate()
        finally:
            company.end()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
