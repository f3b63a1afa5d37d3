"""What the rows of the fault suite share: the account at the end, and looks at processes."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.services.worker import Place, Worker, until
from tests.stress.checker import Total, total_queue


def account(worker: Worker, place: Place, count: int, seconds: float = 60.0) -> Total:
    """Wait until all of so many messages are handled, drain, and account for each.

    Whatever struck, nothing may be lost, nothing come from nowhere, no duplicate be untold.
    """
    until(lambda: len(worker.times()) >= count, seconds, f"{count} handled")
    until(lambda: place.ready("work") == 0, seconds, "the queue is empty")
    stop(worker)
    assert place.ready("work") == 0
    total = total_queue(range(count), range(count), worker.handled())
    assert (total.lost, total.unexpected, total.untold) == (0, 0, 0), total
    return total


def stop(worker: Worker) -> None:
    """A drain that leaves nothing."""
    worker.launcher.terminate()
    assert worker.wait() == 0, worker.output


# ── processes ────────────────────────────────────────────────────────────────


def memory(pid: int, field: str = "VmRSS") -> int:
    """Bytes: resident now, or `VmHWM`, the most that ever were."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0  # the dead have none


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def listening(pids: Iterable[int]) -> list[tuple[str, int]]:
    """Address and port of every TCP socket on which one of these listens."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since we looked
                inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(entry)))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == "0A" and fields[9] in inodes:
                found.append((address, int(port, 16)))
    return found


def called(worker: Worker, title: str) -> int:
    """The process of a worker that is shown under a title that begins so."""
    for pid in worker.living():
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"callboard: {title}#".encode()):
            return pid
    raise LookupError(title)


class limit:
    """A resource limit of a process, lowered while the context is open."""

    def __init__(self, pid: int, what: int, value: int) -> None:
        self._pid, self._what, self._value = pid, what, value
        self._before = (0, 0)

    def __enter__(self) -> None:
        self._before = resource.prlimit(self._pid, self._what)
        resource.prlimit(self._pid, self._what, (self._value, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.prlimit(self._pid, self._what, self._before)


def callboard(worker: Worker, *arguments: str) -> str:
    """Output of another command about a worker."""
    done = subprocess.run(
        [*Worker.command("")[:3], *arguments],
        env={**os.environ, **Worker.environment(worker.directory)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout + done.stderr
