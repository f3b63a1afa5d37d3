"""What a machine can run out of: memory, descriptors, processes, somebody who reads the log."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from actors.roles.connection import CUT_OFF
from tests.services.conftest import Run
from tests.services.worker import BrokerPlace, Place, Worker, numbers, put, until, until_is
from tests.stress.proxy import Proxy
from tests.stress.rig import account, called, limit, memory, stop

APPS = "tests.stress.apps"
MIB = 1 << 20
NOBODY = 65534


def test_a_handler_that_gets_no_memory_fails_that_message_once(place: Place, run: Run) -> None:
    worker = run(f"{APPS}:limited", "--connection", place.url)
    (pid,) = worker.pids("handler")
    with limit(pid, resource.RLIMIT_AS, memory(pid, "VmSize") + 64 * MIB):
        put(place, "work", {"n": 0, "bytes": 1 << 30}, *numbers(range(1, 50)))
        until_is(50, lambda: sum(worker.times().values()))
        assert worker.pids("handler") == [pid]
    stop(worker)
    assert place.ready("work") == 0


def limit_of_new_group() -> Path | None:
    """The file with the limit of a memory cgroup that was made; None where none may be."""
    for root in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        group = root / f"callboard-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            for limit in (group / "memory.max", group / "memory.limit_in_bytes"):
                if limit.exists():
                    return limit
            group.rmdir()
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory cgroup of 64 MiB."""
    limit = limit_of_new_group()
    if limit is None:
        pytest.skip("no memory cgroup may be made here")
    limit.write_text(str(64 * MIB))
    yield limit.parent
    until(lambda: not (limit.parent / "cgroup.procs").read_text(), 10.0)
    limit.parent.rmdir()


def test_a_handler_that_the_kernel_kills_for_its_memory_is_one_that_died(
    place: Place, run: Run, group: Path
) -> None:
    worker = run(f"{APPS}:hungry", "--connection", place.url)
    (pid,) = worker.pids("handler")
    (group / "cgroup.procs").write_text(str(pid))
    put(place, "work", {"n": 0, "resident": 256 * MIB}, *numbers(range(1, 50)))
    account(worker, place, 50)
    assert "work/1 died: killed by SIGKILL" in worker.output


def test_a_message_of_128_mib_passes_in_bounded_memory(rabbitmq: BrokerPlace, run: Run) -> None:
    """The most that RabbitMQ takes. Each process may hold it a few times, never more."""
    worker = run("plain", "--connection", rabbitmq.url)
    worker.ready()
    body = b'{"n": 1, "padding": "'
    body += b"x" * (128 * MIB - len(body) - 2) + b'"}'
    with rabbitmq.admin() as admin:
        admin.publish("work", body, b'{"n": 2}')
    until_is({1: 1, 2: 1}, worker.times, 60.0)
    until_is(0, lambda: worker.status()["totals"]["in_flight"])
    for role in ("connection", "batcher", "handler"):
        for pid in worker.pids(role):
            assert memory(pid, "VmHWM") < 7 * 128 * MIB, role
            assert memory(pid) < 200 * MIB, f"{role} gives it back"
    stop(worker)


def test_a_backlog_of_200_000_takes_no_more_memory_than_its_beginning(
    place: Place, run: Run
) -> None:
    """A slow handler: what is unsettled is bounded by the prefetch, whatever waits."""
    with_payload = [{"n": n, "x": "x" * 100} for n in range(200_000)]
    for start in range(0, len(with_payload), 10_000):
        put(place, "work", *with_payload[start : start + 10_000])
    worker = run("plain", "--connection", place.url, PACE="0.02")
    until(lambda: worker.totals().get("acked", 0) > 5000, 60.0)
    pids = [pid for role in ("connection", "batcher", "handler") for pid in worker.pids(role)]
    before = {pid: memory(pid) for pid in pids}
    until(lambda: worker.totals()["acked"] > 20_000, 60.0)
    growth = {pid: memory(pid) - size for pid, size in before.items()}
    assert max(growth.values()) < 4 * MIB, growth
    assert worker.status()["totals"]["in_flight"] <= 128
    worker.launcher.terminate()
    assert worker.wait() == 0
    assert place.ready("work") == 200_000 - len(worker.handled())


def test_a_connection_without_descriptors_tries_again(
    rabbitmq: BrokerPlace, run: Run, proxy: Proxy
) -> None:
    """Neither its batcher nor, once the link breaks, its broker can be reached; that is told."""
    worker = run("plain", "--connection", proxy.instead_of(rabbitmq.url))
    (pid,) = worker.pids("connection")
    with limit(pid, resource.RLIMIT_NOFILE, 3):
        put(rabbitmq, "work", *numbers(range(100)))
        until(lambda: "lost a frame" in worker.output, 20.0)
        proxy.reset()
        until(lambda: not worker.status().get("ready"), 20.0)
        until(lambda: re.search("connection rabbitmq: .*tried again in", worker.output), 20.0)
    put(rabbitmq, "work", *numbers(range(100, 200)))
    account(worker, rabbitmq, 200, 35.0)


def test_a_connection_that_cannot_reach_its_batcher_is_not_ready_until_it_can(
    rabbitmq: BrokerPlace, run: Run
) -> None:
    """It has no descriptor for a socket to it, and its broker answers as ever."""
    worker = run("plain", "--connection", rabbitmq.url)
    (pid,) = worker.pids("connection")
    with limit(pid, resource.RLIMIT_NOFILE, 3):
        put(rabbitmq, "work", *numbers(range(100)))
        until(lambda: worker.status().get("ready") is False, 20.0)
        (reason,) = (a["reason"] for a in worker.status()["actors"] if a["pid"] == pid)
        assert reason == CUT_OFF
        assert not worker.handled()
    until_is(100, lambda: len(worker.times()))
    worker.ready()
    account(worker, rabbitmq, 100)


AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


class AsNobody(Worker):
    """Root may have any number of processes, so that it cannot be refused one."""

    @staticmethod
    def command(app: str, *flags: str) -> list[str]:
        return [*AS_NOBODY, *Worker.command(app, *flags)]


def may_have(pid: int, most: int) -> None:
    """Set how many processes the user of this one may have when it forks."""
    text = "unlimited" if most == resource.RLIM_INFINITY else str(most)
    subprocess.run([*AS_NOBODY, "prlimit", f"--pid={pid}", f"--nproc={text}:"], check=True)


def test_a_supervisor_that_may_not_fork_tries_again(rabbitmq: BrokerPlace) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to run as another user and to take its processes away")
    # Not in pytest's own folder, which no other user may enter.
    directory = Path(tempfile.mkdtemp(prefix="callboard-nobody-"))
    directory.chmod(0o777)
    worker = AsNobody(directory, "plain", "--connection", rabbitmq.url)
    try:
        until(lambda: "consumes work" in worker.output)
        handler = called(worker, "rabbitmq/work/1")
        pipeline = called(worker, "rabbitmq")
        before, _ = resource.getrlimit(resource.RLIMIT_NPROC)  # which it has inherited
        may_have(pipeline, 0)
        os.kill(handler, signal.SIGKILL)
        until(lambda: worker.output.count("rabbitmq/work/1 died") >= 2, 20.0)
        assert "no process could be started for it" in worker.output
        may_have(pipeline, before)
        put(rabbitmq, "work", *numbers(range(100)))
        account(worker, rabbitmq, 100, 40.0)
    finally:
        worker.destroy()
        shutil.rmtree(directory)


@pytest.mark.parametrize("reader", ["gone", "asleep"])
def test_nobody_who_reads_the_log_is_needed(
    place: Place, run: Run, tmp_path: Path, reader: str
) -> None:
    """`| head -1`, or a reader that stopped: work goes on, what is not written is counted."""
    os.mkfifo(tmp_path / "err")
    read = os.open(tmp_path / "err", os.O_RDONLY | os.O_NONBLOCK)
    worker = run(f"{APPS}:noisy", "--connection", place.url)
    worker.ready()
    if reader == "gone":
        os.close(read)
    put(place, "work", *numbers(range(300)))
    until(lambda: min(worker.times()[n] for n in range(300)) == 2, 60.0, "each failed once")
    count = 300
    text = b""
    while reader == "asleep" and b"log lines were dropped" not in text:
        put(place, "work", {"n": count})
        until(lambda: worker.times()[count] == 2)  # noqa: B023
        text += everything(read)
        count += 1
    until_is(0, lambda: worker.status()["totals"]["in_flight"])
    if reader == "asleep":
        os.close(read)
    worker.launcher.terminate()
    assert worker.launcher.wait(40.0) == 0
    until(lambda: not worker.living(), 5.0)
    assert place.ready("work") == 0


def everything(descriptor: int) -> bytes:
    data = b""
    while True:
        try:
            more = os.read(descriptor, 65536)
        except BlockingIOError:
            return data
        if not more:
            return data
        data += more
