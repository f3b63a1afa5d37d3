"""A load for as long as told, with random faults: does anything get lost, or grow?

`python -m tests.stress.soak MINUTES [--seed N]` prints the account of all messages, and how
memory, descriptors and processes went. Exit code 1 where a message was lost or something grew.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from actors import Publisher
from actors.errors import PublishError
from tests.services.worker import BrokerPlace, Worker, until
from tests.stress.checker import Total, total_queue
from tests.stress.proxy import Mode, Proxy
from tests.stress.rig import descriptors, memory
from tests.support.broker import Broker

QUEUES = ("work", "more", "async", "class")
RATE = 100  #: messages a second
PAUSE = (6.0, 20.0)  #: seconds between two faults; five deaths a minute end a system
BRIEF = 8.0  #: seconds that a fault lasts which ends by itself
SAMPLE = 2.0  #: seconds
WARM_UP = 60.0  #: seconds at the beginning that count for no slope

#: What may be gained over the whole run: MiB, and how many.
FLAT = {"memory": 15.0, "descriptors": 4.0, "processes": 1.0}


@dataclass(frozen=True)
class Sample:
    """All processes of the system, at a moment when it was ready."""

    time: float
    memory: float  #: MiB
    descriptors: int
    processes: int


class Soak:
    """One worker, one broker behind a proxy, and all that befalls them."""

    def __init__(self, broker: Broker, directory: Path, seed: int) -> None:
        self._random = Random(seed)
        self._broker = broker
        self._place = BrokerPlace(broker, broker.add_vhost())
        for queue in QUEUES:
            self._place.declare(queue)
        self._proxy = Proxy(broker.port)
        self._worker = Worker(
            directory, "every", "--connection", self._proxy.instead_of(self._place.url)
        )
        self._worker.ready(60.0)
        self._over = threading.Event()
        self._confirmed: list[int] = []
        self._attempted = 0
        self.samples: list[Sample] = []
        self.faults: Counter[str] = Counter()

    def run(self, seconds: float) -> Total:
        """Strike for so long, then let it drain; what became of each message."""
        threads = [threading.Thread(target=each) for each in (self._load, self._watch)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                self._strike()
                self._over.wait(self._random.uniform(*PAUSE))
                assert self._worker.launcher.poll() is None, self._worker.output[-3000:]
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        self._worker.ready(60.0)
        until(lambda: not any(map(self._place.ready, QUEUES)), 120.0, "the queues are empty")
        self._worker.launcher.terminate()
        assert self._worker.wait() == 0, self._worker.output[-3000:]
        return total_queue(range(self._attempted), self._confirmed, self._worker.handled())

    def end(self) -> None:
        self._proxy.close()
        self._worker.destroy()

    # ── beside the faults ────────────────────────────────────────────────────

    def _load(self) -> None:
        queues = itertools.cycle(QUEUES)
        with Publisher(self._place.url) as publisher:
            while not self._over.wait(1 / RATE):
                number, self._attempted = self._attempted, self._attempted + 1
                message = {"n": number} | ({"do": "raise once"} if number % 100 == 0 else {})
                with suppress(PublishError):  # the broker is being restarted
                    publisher.put(next(queues), message)
                    self._confirmed.append(number)

    def _watch(self) -> None:
        begin = time.monotonic()
        while not self._over.wait(SAMPLE):
            lived = time.monotonic() - begin
            if lived > WARM_UP and self._worker.status().get("ready"):
                with suppress(OSError):  # a process ended while we looked
                    pids = self._worker.living()
                    self.samples.append(
                        Sample(
                            lived,
                            sum(map(memory, pids)) / 2**20,
                            sum(map(descriptors, pids)),
                            len(pids),
                        )
                    )

    # ── faults ───────────────────────────────────────────────────────────────

    def _strike(self) -> None:
        faults: dict[str, Callable[[], object]] = {
            "handler killed": lambda: self._signal("handler", signal.SIGKILL),
            "batcher killed": lambda: self._signal("batcher", signal.SIGKILL),
            "connection killed": lambda: self._signal("connection", signal.SIGKILL),
            "pipeline killed": lambda: self._signal("pipeline", signal.SIGKILL),
            "handler stopped": lambda: self._pause("handler"),
            "batcher stopped": lambda: self._pause("batcher"),
            "connection stopped": lambda: self._pause("connection"),
            "link reset": self._proxy.reset,
            "link slow": lambda: self._link(Mode.DELAY),
            "link half open": lambda: self._link(Mode.SWALLOW_UP),
            "link dead": lambda: self._link(Mode.SWALLOW),
            "broker restarted": self._restart,
        }
        name = self._random.choice(list(faults))
        self.faults[name] += 1
        faults[name]()

    def _signal(self, role: str, number: int) -> list[int]:
        actors = self._worker.status().get("actors", ())
        playing = "supervisor" if role == "pipeline" else role
        pids = [
            actor["pid"]
            for actor in actors
            if actor["role"] == playing and actor["name"] != "root" and actor["pid"]
        ]
        struck = self._random.sample(pids, 1) if pids else []
        for pid in struck:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return struck

    def _pause(self, role: str) -> None:
        for pid in self._signal(role, signal.SIGSTOP):
            self._over.wait(BRIEF)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _link(self, mode: Mode) -> None:
        self._proxy.mode = mode
        self._over.wait(BRIEF)
        self._proxy.mode = Mode.PASS

    def _restart(self) -> None:
        self._broker.ctl("stop_app")
        self._broker.ctl("start_app")


def report(soak: Soak, total: Total) -> tuple[list[str], bool]:
    """How it went, line by line, and whether all is well."""
    lines = [f"faults: {dict(sorted(soak.faults.items()))}", f"messages: {total}"]
    well = (total.lost, total.unexpected, total.untold) == (0, 0, 0)
    if len(soak.samples) < 2:
        return [*lines, "too short for slopes"], well
    times = [sample.time for sample in soak.samples]
    lines.append(f"{len(times)} samples over {times[-1] - times[0]:.0f} s:")
    for name, most in FLAT.items():
        values = [float(getattr(sample, name)) for sample in soak.samples]
        slope = statistics.linear_regression(times, values).slope
        gain = slope * (times[-1] - times[0])
        lines.append(
            f"{name}: mean {statistics.mean(values):.1f}, {min(values):.0f} to {max(values):.0f}, "
            f"slope {slope * 3600:+.2f} an hour, gained {gain:+.2f} (flat: below {most:g})"
        )
        well = well and gain < most
    return lines, well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    broker = Broker()
    try:
        with tempfile.TemporaryDirectory(prefix="callboard-soak-") as directory:
            soak = Soak(broker, Path(directory), told.seed)
            try:
                lines, well = report(soak, soak.run(told.minutes * 60))
                sys.stdout.write("\n".join([*lines, ""]))
                return 0 if well else 1
            finally:
                soak.end()
    finally:
        broker.stop()


if __name__ == "__main__":
    sys.exit(main())
