"""A handler that gives up its user, its group or its capabilities still ends with its parent.

The kernel forgets then that the process is to be killed with its parent.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from actors import Publisher
from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.file import SpoolFile
from tests.services.worker import Worker, until

APP = """
import ctypes
import os
from actors import App, HandlerActor, Options

app = App()
libc = ctypes.CDLL(None, use_errno=True)


def user():
    os.setgid(65534)
    os.setuid(65534)


def group():
    os.setegid(65534)


def capabilities():
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert libc.capset(header, (ctypes.c_uint32 * 6)()) == 0


def signal_itself():
    libc.prctl(1, 0, 0, 0, 0)


def user_and_descriptor():
    user()
    for fd in os.listdir("/proc/self/fd"):
        if os.path.islink(f"/proc/self/fd/{fd}") and "pidfd" in os.readlink(f"/proc/self/fd/{fd}"):
            os.close(int(fd))


def drop(place):
    if place == os.environ["PLACE"]:
        globals()[os.environ["DROPPED"]]()


@app.run_on_startup
def begin(app):
    drop("startup")


@app.route(["a"], options={Options.IN_FLIGHT: int(os.environ["IN_FLIGHT"])})
class Drops(HandlerActor):
    def on_start(self):
        drop("on_start")

    def handle(self, messages):
        drop("handle")
"""

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has privileges to drop")


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "dropping.py").write_text(APP)
    return tmp_path


def start(place: Path, dropped: str, at: str, in_flight: int, *flags: str) -> Worker:
    url = f"spool://{place}/s.db"
    if at == "handle":
        with Publisher(url) as publisher:
            publisher.put("a", 1)
    return Worker(
        place, "dropping:app", "--connection", url, "--app-dir", str(place), *flags,
        DROPPED=dropped, PLACE=at, IN_FLIGHT=str(in_flight),
    )  # fmt: skip


@needs_root
@pytest.mark.parametrize(
    ("dropped", "at", "in_flight"),
    [
        ("user", "startup", 1),
        ("user", "on_start", 1),
        ("user", "handle", 1),
        ("user", "handle", 2),
        ("group", "on_start", 1),
        ("capabilities", "on_start", 1),
        ("signal_itself", "on_start", 1),
        ("user_and_descriptor", "on_start", 1),
    ],
)
def test_no_process_outlives_its_killed_launcher_and_the_name_is_free(
    place: Path, dropped: str, at: str, in_flight: int
) -> None:
    worker = start(place, dropped, at, in_flight)
    pids = [actor["pid"] for actor in worker.ready()["actors"]]
    if at == "handle":
        spool = SpoolAdmin(SpoolFile(place / "s.db"))
        until(lambda: not spool.show("a"), why="handled")
    os.kill(worker.launcher.pid, signal.SIGKILL)
    worker.launcher.wait()
    try:
        until(lambda: not any(map(alive, pids)), 10.0, "every process has ended")
    finally:
        for pid in filter(alive, pids):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    again = start(place, "signal_itself", "nowhere", 1, "--burst")
    assert again.launcher.wait(30.0) == 0, again.output


@needs_root
def test_a_handler_that_dropped_privileges_is_replaced_with_its_unit(place: Path) -> None:
    worker = start(place, "user", "on_start", 1)
    (before,) = worker.pids("handler")
    (pipeline,) = worker.pids("pipeline")
    try:
        os.kill(pipeline, signal.SIGKILL)
        until(lambda: not alive(before), 10.0, "the old one has ended")
        until(lambda: worker.pids("handler") not in ([], [before]), 20.0, "a new one runs")
    finally:
        worker.launcher.terminate()
        assert worker.launcher.wait(30.0) == 0, worker.output


@needs_root
def test_user_code_does_not_hold_the_lock_of_the_runtime_file(place: Path) -> None:
    worker = start(place, "signal_itself", "nowhere", 1)
    try:
        (handler,) = worker.pids("handler")
        held = [os.readlink(entry) for entry in Path(f"/proc/{handler}/fd").iterdir()]
        assert not [file for file in held if file.startswith(str(place / "run"))]
    finally:
        worker.launcher.terminate()
        assert worker.launcher.wait(30.0) == 0, worker.output
