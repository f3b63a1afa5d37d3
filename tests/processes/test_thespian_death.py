"""No process outlives its system, whoever of it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from actors.ops import system
from actors.ops.runtime_file import find
from actors.stages.thespian import processes
from tests.support.thespian_cast import MAIN, Play, on_stage, report, report_of, until

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Running:
    """A system that a launcher of its own runs."""

    launcher: subprocess.Popen[bytes]
    directory: Path
    log: Path
    session: int

    def root(self) -> int:
        report = system.status("puppets", runtime_dir=self.directory)
        assert report is not None
        return int(report["pid"])

    def is_gone(self) -> bool:
        return not processes.members(self.session)


def start(tmp_path: Path, app: str = "puppets") -> Running:
    directory, log = tmp_path / "run", tmp_path / "log"
    with log.open("wb") as out:
        launcher = subprocess.Popen(
            [sys.executable, "-c", MAIN, str(directory), app],
            cwd=REPOSITORY,
            stdout=out,
            stderr=out,
        )
    found = until(lambda: directory.exists() and find(directory, None, None), 10.0)
    return Running(launcher, directory, log, found["pids"]["admin"])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    it = start(tmp_path)
    yield it
    it.launcher.kill()
    it.launcher.wait(5)
    assert processes.end(it.session, 2.0) == []


def test_all_go_with_the_launcher(running: Running) -> None:
    assert len(processes.members(running.session)) == 2
    running.launcher.kill()
    running.launcher.wait(5)
    until(running.is_gone, 2.0)


@pytest.mark.parametrize("who", ["admin", "root"])
def test_the_launcher_says_so_and_ends_when_its_system_dies(running: Running, who: str) -> None:
    os.kill(running.session if who == "admin" else running.root(), signal.SIGKILL)
    assert running.launcher.wait(5) == 1
    assert running.is_gone()
    assert "the actor system died" in running.log.read_text()


def test_the_name_of_a_killed_system_is_free_again(running: Running, tmp_path: Path) -> None:
    running.launcher.kill()
    running.launcher.wait(5)
    until(running.is_gone, 2.0)
    again = start(tmp_path)
    try:
        assert again.root()
    finally:
        again.launcher.terminate()
        assert again.launcher.wait(5) == 0


def test_children_go_with_their_supervisor() -> None:
    with on_stage() as stage:
        stage.send(Play("create", ("middle#1",)))
        for name in ("leaf#1", "leaf#2"):
            stage.send(Play("send", ("middle#1", Play("create", (name,)))))
        middle = report_of(stage, "middle#1")["pid"]
        leaves = until(lambda: len(m := processes.members(stage.session)) == 5 and set(m))
        leaves -= {stage.session, report(stage)["pid"], middle}
        os.kill(middle, signal.SIGKILL)
        until(lambda: not leaves & set(processes.members(stage.session)), 2.0)
        until(lambda: "exited middle#1 killed by SIGKILL" in report(stage)["heard"])
