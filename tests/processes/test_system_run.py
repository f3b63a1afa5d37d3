"""`run` and `status`: signals, exit codes, names and ports, on real processes."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.errors import ConfigurationError, UnreachableError
from actors.ops import system
from actors.ops.runtime_file import RuntimeFile, find, runtime_directory
from actors.plan.network import Network
from actors.roles.protocol import ActorMessage
from actors.stages.thespian import processes
from actors.stages.thespian.launcher import ask
from tests.support.thespian_cast import MAIN, PLAN, Play, until

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run"


@contextmanager
def running(directory: Path, app: str = "puppets") -> Iterator[subprocess.Popen[bytes]]:
    directory.parent.mkdir(exist_ok=True)
    with (directory.parent / "log").open("wb") as out:
        launcher = subprocess.Popen(
            [sys.executable, "-c", MAIN, str(directory), app],
            cwd=REPOSITORY,
            stdout=out,
            stderr=out,
        )
    try:
        session = found(directory)["pids"]["admin"]
        yield launcher
        assert processes.members(session) == []
    finally:
        launcher.kill()
        launcher.wait(5)


def found(directory: Path) -> dict[str, Any]:
    result: dict[str, Any] = until(lambda: find(directory, "puppets", None), 10.0)
    return result


def tell(directory: Path, message: ActorMessage) -> None:
    where = found(directory)
    key = bytes.fromhex(where["key"])
    ask(Network(where["host"], where["admin_port"], (key,)), message, 0.2)


def until_stubborn(directory: Path) -> None:
    """The root can be asked before it knows that it never drains."""
    until(lambda: system.status("puppets", runtime_dir=directory) == {}, 10.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(directory: Path, number: int) -> None:
    """B57"""
    with running(directory) as launcher:
        assert system.status("puppets", runtime_dir=directory)
        launcher.send_signal(number)
        assert launcher.wait(5) == 0


def test_a_second_signal_stops_at_once(directory: Path) -> None:
    with running(directory, "never drains") as launcher:
        until_stubborn(directory)
        launcher.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            launcher.wait(0.2)
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(5) == 75
        assert time.monotonic() - begin < 2.0


def test_a_root_that_does_not_drain_in_time_is_stopped(directory: Path) -> None:
    with running(directory, "never drains") as launcher:
        until_stubborn(directory)
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(5) == 75  # 0.5 s for the drain and 2 s more
    assert "not drained within 0.5 s" in (directory.parent / "log").read_text()


def test_a_root_that_hears_nothing_is_stopped_all_the_same(directory: Path) -> None:
    with running(directory) as launcher:
        root = system.status("puppets", runtime_dir=directory)
        assert root is not None
        os.kill(root["pid"], signal.SIGSTOP)
        launcher.send_signal(signal.SIGTERM)
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(5) == 75


@pytest.mark.parametrize(
    ("left", "code", "told"),
    [
        (0, 0, "drained: nothing is left unsettled"),
        (3, 75, "stopped with 3 deliveries unsettled: they come again"),
    ],
)
def test_the_exit_code_and_the_log_say_whether_work_is_left(
    directory: Path, left: int, code: int, told: str
) -> None:
    with running(directory) as launcher:
        tell(directory, Play("finish", (left,)))
        assert launcher.wait(5) == code
    assert told in (directory.parent / "log").read_text()


def test_what_failed_is_one_line_and_the_exit_code(directory: Path) -> None:
    with running(directory) as launcher:
        tell(directory, Play("give_up", (78, "queue 'words' does not exist")))
        assert launcher.wait(5) == 78
    assert "queue 'words' does not exist" in (directory.parent / "log").read_text()


def test_actors_log_as_the_launcher_does(directory: Path) -> None:
    with running(directory) as launcher:
        root = system.status("puppets", runtime_dir=directory)
        assert root is not None
        tell(directory, Play("log", ("from an actor",)))
        launcher.terminate()
        assert launcher.wait(5) == 0
    assert f"{root['pid']} from an actor\n" in (directory.parent / "log").read_text()


def test_run_works_unguarded_in_a_plain_script(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        "import sys, pathlib\n"
        "from tests.support.thespian_cast import PLAN, cast, system\n"
        "with cast():\n"
        f"    directory = pathlib.Path({str(tmp_path)!r})\n"
        "    sys.exit(system.run(PLAN, name='plain', runtime_dir=directory))\n"
    )
    with (tmp_path / "log").open("wb") as out:
        launcher = subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=out,
            stderr=out,
        )
    where = until(lambda: find(tmp_path, "plain", None), 10.0)
    launcher.terminate()
    assert launcher.wait(5) == 0
    assert processes.members(where["pids"]["admin"]) == []
    assert (tmp_path / "log").read_text() == ""


def test_on_status_is_called_several_times_a_second(directory: Path) -> None:
    seen: list[float] = []

    def on_status(report: dict[str, Any]) -> None:
        seen.append(time.monotonic())
        if len(seen) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    assert system.run(PLAN, name="puppets", runtime_dir=directory, on_status=on_status) == 0
    assert seen[-1] - seen[0] > 2.5 * system.STATUS_INTERVAL, "no more often than that"


def test_a_system_that_is_idle_does_not_wait_for_its_deadline(directory: Path) -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    begin = time.monotonic()
    assert system.run(replace(PLAN, shutdown_timeout=20.0), name="p", runtime_dir=directory) == 0
    assert time.monotonic() - begin < 10.0
    timer.join()


def test_two_systems_cannot_have_one_name(directory: Path) -> None:
    with (
        RuntimeFile(directory, "puppets"),
        pytest.raises(ConfigurationError, match=r"--name puppets"),
    ):
        system.run(PLAN, name="puppets", runtime_dir=directory)


def test_an_admin_port_in_use_is_named(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"--admin-port {port}"):
            system.run(PLAN, name="puppets", runtime_dir=directory, admin_port=port)
    assert find(directory, "puppets", None) is None


def test_the_key_is_the_owners_alone(directory: Path) -> None:
    with running(directory) as launcher:
        assert stat.S_IMODE((directory / "puppets.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        key = found(directory)["key"]
        launcher.terminate()
        assert launcher.wait(5) == 0
    assert key not in (directory / "puppets.json").read_text()
    assert key not in (directory.parent / "log").read_text()


def test_status_of_nothing_is_none_and_starts_nothing(directory: Path) -> None:
    assert system.status(None, runtime_dir=directory) is None
    assert system.status("puppets", runtime_dir=directory) is None
    assert not directory.exists()


def test_status_finds_the_only_one_by_port_and_by_name(directory: Path) -> None:
    with running(directory) as launcher:
        port = found(directory)["admin_port"]
        by = [
            system.status(None, runtime_dir=directory),
            system.status("puppets", runtime_dir=directory),
            system.status(None, admin_port=port, runtime_dir=directory),
        ]
        assert {report["name"] for report in by if report} == {"root#1"}
        assert system.status(None, admin_port=1, runtime_dir=directory) is None
        launcher.terminate()
        assert launcher.wait(5) == 0


def test_status_of_several_names_them(directory: Path) -> None:
    with RuntimeFile(directory, "one") as one, RuntimeFile(directory, "two") as two:
        for name, file in (("one", one), ("two", two)):
            file.write({"name": name, "admin_port": 1, "key": ""})
        with pytest.raises(ConfigurationError, match="one, two"):
            system.status(None, runtime_dir=directory)


def test_a_root_that_does_not_answer_is_told_apart_from_none(directory: Path) -> None:
    with running(directory) as launcher:
        root = system.status("puppets", runtime_dir=directory)
        assert root is not None
        os.kill(root["pid"], signal.SIGSTOP)
        with pytest.raises(UnreachableError, match="puppets runs, but did not answer"):
            system.status("puppets", timeout=0.2, runtime_dir=directory)
        os.kill(root["pid"], signal.SIGCONT)
        launcher.terminate()
        assert launcher.wait(5) == 0


def test_the_runtime_directory_is_the_one_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("CALLBOARD_RUNTIME_DIR", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert runtime_directory() == Path(f"/tmp/callboard-{os.getuid()}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/x")
    assert runtime_directory() == Path("/x/callboard")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/r:/s")
    assert runtime_directory() == Path("/r")
    monkeypatch.setenv("CALLBOARD_RUNTIME_DIR", "/c")
    assert runtime_directory() == Path("/c")


def _a_link(path: Path) -> None:
    path.symlink_to("/tmp")


def _open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def _a_file(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("prepare", [_a_link, _open_to_all, _a_file])
def test_an_unsafe_runtime_directory_is_refused(
    tmp_path: Path, prepare: Callable[[Path], None]
) -> None:
    prepare(tmp_path / "run")
    with pytest.raises(ConfigurationError, match="runtime directory"):
        RuntimeFile(tmp_path / "run", "puppets")


def test_the_runtime_file_is_not_followed_to_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    (tmp_path / "puppets.json").symlink_to(elsewhere)
    with pytest.raises(ConfigurationError), RuntimeFile(tmp_path, "puppets"):
        pass
    assert elsewhere.read_text() == "precious"


def test_any_app_name_is_a_file_name(tmp_path: Path) -> None:
    name = "../handlers.words:app"
    with RuntimeFile(tmp_path, name) as file:
        file.write({"name": name, "admin_port": 1})
        assert find(tmp_path, name, None) == {"name": name, "admin_port": 1}
        assert len(list(tmp_path.iterdir())) == 1
