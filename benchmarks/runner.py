"""One worker in one scene: what it works on is filled, it is started, watched and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bare import Bare
from benchmarks.filling import fill
from benchmarks.job import DIRECTORY, delays, total
from benchmarks.places import Places
from benchmarks.setting import Setting
from benchmarks.workers import PROGRAMS, ROOT, Worker

LIMIT = 120.0  #: seconds for a worker to do all that is there
END = 1.0  #: seconds between SIGTERM and SIGKILL


def pause() -> None:
    time.sleep(0.05)


class Run:
    """A worker, its place and its count."""

    def __init__(
        self, worker: Worker, setting: Setting, place: dict[str, str], directory: Path
    ) -> None:
        self.worker = worker
        self.setting = setting
        self.began = 0.0  #: monotonic: when the worker was started
        self._url = place.get("URL", "")
        self._tally = directory / "tally"
        self._tally.mkdir()
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = os.environ | setting.environment() | place | {
            DIRECTORY: str(self._tally),
            "PYTHONPATH": str(ROOT),
            "CALLBOARD_STATE_DIR": str(directory),
            "CALLBOARD_RUNTIME_DIR": str(directory / "run"),
            "dramatiq_queue_prefetch": str(setting.prefetch // 2),
        }  # fmt: skip

    def fill(self, count: int) -> float:
        """Put so many messages, at the scene's rate where it has one; messages a second."""
        if self.worker.fill:
            command = [self.worker.python(), self.worker.fill, str(count)]
            return float(
                subprocess.check_output(
                    command, cwd=PROGRAMS, env=self._environment, stderr=subprocess.DEVNULL
                )
            )
        if not self._url:
            return 0.0
        bare = Bare(self._url)
        try:
            return self._publish(bare, count)
        finally:
            bare.close()

    def start(self) -> None:
        command = [self.worker.python(), *self.worker.program(self.setting).split()]
        with self._log.open("wb") as log:
            self.began = time.monotonic()
            self._process = subprocess.Popen(
                command, cwd=PROGRAMS, env=self._environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def done(self) -> tuple[int, float, float]:
        """Messages done with, when the first call of the handler began, when the last ended."""
        return total(self._tally)

    def delays(self) -> list[tuple[float, float]]:
        return delays(self._tally)

    def wait(self, count: int, meanwhile: Callable[[], object] = pause) -> None:
        """Until so many are done with; raises `TimeoutError` with the end of the log."""
        assert self._process
        deadline = time.monotonic() + LIMIT
        while (done := self.done()[0]) < count:
            if time.monotonic() > deadline or self._process.poll() is not None:
                told = self._log.read_text(errors="replace")[-2000:]
                raise TimeoutError(f"{self.worker.name} did {done:,} of {count:,}:\n{told}")
            meanwhile()

    def end(self) -> None:
        """SIGTERM, and after a while SIGKILL, to all of its processes."""
        if not self._process:
            return
        self._process.terminate()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _publish(self, bare: Bare, count: int) -> float:
        queues = self.setting.queues
        if self.setting.rate:
            rate = fill(self.setting, lambda body: bare.publish(queues[0], [body]), count)
            bare.declare(queues[0])  # what is unread when we close may be dropped
            return rate
        began = time.monotonic()
        share = count // len(queues)
        for queue in queues:
            bare.publish(queue, map(self.setting.body, range(share)))
        while sum(map(bare.declare, queues)) < share * len(queues) and not self._process:
            time.sleep(0.02)
        return count / (time.monotonic() - began)


@contextmanager
def running(places: Places, worker: Worker, setting: Setting) -> Iterator[Run]:
    """A run in a directory of its own; whatever was started is ended."""
    with (
        tempfile.TemporaryDirectory() as directory,
        places.ready(worker.place, setting, Path(directory)) as place,
    ):
        run = Run(worker, setting, place, Path(directory))
        try:
            yield run
        finally:
            run.end()
