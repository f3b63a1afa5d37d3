"""What can happen to the file of a spool, and to the clock that its delays go by."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from actors import Publisher
from actors.errors import PublishError
from tests.services.conftest import Run
from tests.services.worker import SpoolPlace, numbers, put, until
from tests.stress.checker import total_queue
from tests.stress.rig import account, stop

APPS = "tests.stress.apps"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        if os.environ.get("CI"):
            pytest.fail("to mount a small file system needs root")
        pytest.skip("to mount a small file system needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte of it; returns the file that takes it."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x")
    return filler


def test_a_full_disk_is_waited_for(small_disk: Path, run: Run, tmp_path: Path) -> None:
    """Publishers are told; what is in the spool is settled once there is room again."""
    place = SpoolPlace(small_disk / "spool.db")
    gate = tmp_path / "record.gate"
    gate.touch()
    put(place, "work", {"n": 0, "do": "wait"}, *numbers(range(1, 500)))
    worker = run("plain", "--connection", place.url)
    until(lambda: worker.handled() and worker.status().get("ready"))
    filler = fill(small_disk)
    with pytest.raises(PublishError, match="full"):
        put(place, "work", {"n": 500})
    gate.unlink()
    until(lambda: "full" in worker.output, 20.0)
    filler.unlink()
    account(worker, place, 500, 35.0)
    assert "Traceback" not in worker.output


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int sync_with(const char *name, int fd) {
    if (!access(getenv("FAULTY_DISK"), F_OK)) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return sync_with("fsync", fd); }
int fdatasync(int fd) { return sync_with("fdatasync", fd); }
"""

PUBLISH = """
import itertools, os, sys
from actors import Publisher
from actors.errors import PublishError
publisher = Publisher(sys.argv[1])
for n in itertools.count():
    if os.path.exists(sys.argv[2]):
        break
    try:
        publisher.put("work", {"n": n})
        print(n, "stored", flush=True)
    except PublishError as error:
        print(n, error, flush=True)
publisher.close()
"""


@pytest.fixture
def faulty(tmp_path: Path) -> dict[str, str]:
    """Environment under which no write reaches the disk while a file called "faulty" exists."""
    source, shim = tmp_path / "shim.c", tmp_path / "shim.so"
    source.write_text(SHIM)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    except FileNotFoundError:
        pytest.skip("needs a C compiler, to come between a process and its disk")
    return {"LD_PRELOAD": str(shim), "FAULTY_DISK": str(tmp_path / "faulty")}


def test_what_a_faulty_disk_did_not_take_is_not_said_to_be_stored(
    spool: SpoolPlace, run: Run, tmp_path: Path, faulty: dict[str, str]
) -> None:
    disk, end, told = (tmp_path / name for name in ("faulty", "end", "told"))

    def lines(what: str) -> list[int]:
        whole = told.read_text().rpartition("\n")[0].splitlines()
        return [int(line.partition(" ")[0]) for line in whole if what in line]

    worker = run("plain", "--connection", spool.url, PACE="0.02", **faulty)
    with told.open("w") as output:
        publisher = subprocess.Popen(
            [sys.executable, "-c", PUBLISH, spool.url, end],
            env={**os.environ, **faulty},
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
    try:
        until(lambda: len(lines("stored")) > 100 and worker.handled(), 30.0)
        disk.touch()
        until(lambda: len(lines("disk I/O error")) > 20, 20.0)
        disk.unlink()
        before = len(lines("stored"))
        until(lambda: len(lines("stored")) > before + 100, 35.0, "stored again")
    finally:
        end.touch()
        publisher.wait(20.0)
    stored = set(lines("stored"))
    until(lambda: stored <= set(worker.times()) and not spool.ready("work"), 35.0, "handled")
    stop(worker)
    total = total_queue(lines(""), stored, worker.handled())
    assert (total.lost, total.unexpected, total.untold) == (0, 0, 0), total


def test_a_spool_damaged_under_a_worker_is_told_of_and_stops_no_other(
    run: Run, tmp_path: Path
) -> None:
    first, second = SpoolPlace(tmp_path / "first.db"), SpoolPlace(tmp_path / "second.db")
    put(first, "first", *[{"n": n, "x": "x" * 2000} for n in range(10, 3000)])
    put(second, "second", *numbers(range(10)))
    worker = run(
        f"{APPS}:two_spools", PACE="0.1",
        FIRST=str(tmp_path / "first.db"), SECOND=str(tmp_path / "second.db"),
    )  # fmt: skip
    until(lambda: set(range(11)) <= set(worker.times()))
    for path in (tmp_path / "first.db", tmp_path / "first.db-wal"):
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(os.path.getsize(path) - 4096))
    until(lambda: "first.db" in worker.output and not worker.status()["ready"], 35.0)
    put(second, "second", *numbers(range(3000, 3010)))
    until(lambda: set(range(3000, 3010)) <= set(worker.times()), 10.0)
    assert "Traceback" not in worker.output
    worker.launcher.terminate()
    assert worker.wait() == 0


SHARES = (0.9, 0.5, 0.2)


def test_of_a_journal_cut_off_anywhere_the_whole_transactions_are_kept(
    run: Run, tmp_path: Path
) -> None:
    """What a power cut may leave: the end of the write-ahead log is missing or wrong."""
    with Publisher(f"spool://{tmp_path}/spool.db") as publisher:
        for n in range(100):
            publisher.put("work", {"n": n, "x": "x" * 500})
        for share in SHARES:  # while it is open: the last to close it puts an end to the journal
            shutil.copytree(tmp_path, tmp_path / str(share), ignore=shutil.ignore_patterns("0.*"))
    left = []
    for share in SHARES:
        cut(tmp_path / str(share) / "spool.db-wal", share)
        worker = run("plain", "--connection", f"spool://{tmp_path}/{share}/spool.db", "--burst")
        assert worker.wait() == 0
        seen = set(worker.times())
        assert seen == set(range(len(seen)))  # a prefix, each whole
        left.append(len(seen))
        (tmp_path / "record").unlink()
    assert 100 > left[0] > left[1] > left[2] > 0


def cut(journal: Path, share: float) -> None:
    """Keep a part of it, whose end is wrong."""
    os.truncate(journal, int(os.path.getsize(journal) * share))
    with journal.open("r+b") as torn:
        torn.seek(-100, os.SEEK_END)
        torn.write(os.urandom(100))


# ── the clock ────────────────────────────────────────────────────────────────


@pytest.fixture
def faketime() -> str:
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not found:
        if os.environ.get("CI"):
            pytest.fail("the package faketime is missing")
        pytest.skip("the package faketime is missing")
    return found[0]


@pytest.mark.parametrize("jump", ["+3600s", "-3600s"])
def test_a_clock_that_jumps_an_hour_loses_and_repeats_nothing(
    spool: SpoolPlace, run: Run, tmp_path: Path, faketime: str, jump: str
) -> None:
    """Timers are monotonic; only what waits in a spool until a date follows the clock."""
    clock = tmp_path / "clock"
    clock.write_text("+0s")
    # libfaketime takes the moment that Python's sleep ends at for one of the wall clock's, and
    # the kernel refuses what comes of it.
    (tmp_path / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"
    )
    put(spool, "work", *numbers(range(500)))
    worker = run(
        f"{APPS}:paced_only", "--connection", spool.url, PACE="0.1",
        LD_PRELOAD=faketime, FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1", PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    until(lambda: worker.handled() and worker.status().get("ready"))
    clock.write_text(jump)
    begin = time.monotonic()
    put(spool, "work", *numbers(range(500, 1000)))
    total = account(worker, spool, 1000, 30.0)
    assert total.duplicated == 0
    assert time.monotonic() - begin < 30.0
    assert "died: " not in worker.output
    assert "lost: " not in worker.output
