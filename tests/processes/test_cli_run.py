"""`callboard run` and `status` for real: processes, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.file import SpoolFile
from actors.publisher import Publisher

ROOT = Path(__file__).parents[2]
APP = """
import pathlib
from actors import App, Options

app = App()

@app.route(["words"], options={Options.BULK_SIZE: 4, Options.BULK_FLUSH_INTERVAL: 0.1})
def index(messages):
    with pathlib.Path("seen").open("a") as file:
        for message in messages:
            file.write(f"{message.body}\\n")
"""
LIMIT = 30.0


class Place:
    """A directory with an app, a spool and a runtime directory of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"spool://{path}/spool.db"
        (path / "run_app.py").write_text(APP)
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CALLBOARD_CONNECTION": self.url,
            "CALLBOARD_RUNTIME_DIR": str(path / "run"),
            "CALLBOARD_STATE_DIR": str(path),
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        # Into files: the processes of a system hold what they were given for as long as they live.
        with (self.path / "out").open("wb") as out, (self.path / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "actors", *arguments],
                cwd=self.path,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.started.append(process)
        return process

    def call(self, *arguments: str) -> tuple[int, str, str]:
        code = self.start(*arguments).wait(LIMIT)
        return code, (self.path / "out").read_text(), (self.path / "err").read_text()

    def put(self, *words: str) -> None:
        with Publisher(self.url) as publisher:
            for word in words:
                publisher.put("words", word)

    def seen(self) -> list[str]:
        file = self.path / "seen"
        return file.read_text().split() if file.exists() else []

    def left(self) -> int:
        return len(SpoolAdmin(SpoolFile(self.path / "spool.db")).show("words"))

    def until_ready(self) -> None:
        deadline = time.monotonic() + LIMIT
        while self.call("status", "--ready")[0] != 0:
            assert time.monotonic() < deadline, (self.path / "err").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    for process in found.started:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_burst_handles_all_there_is_and_exits_0(place: Place) -> None:
    place.put(*"abcdefghij")
    code, _, err = place.call("run", "run_app:app", "--burst")
    assert code == 0, err
    assert sorted(place.seen()) == list("abcdefghij")
    assert place.left() == 0
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines[0]["msg"] == f"run_app:app: spool at {place.url} serves words"


def test_a_running_system_tells_how_it_is_and_drains_at_sigterm(place: Place) -> None:
    worker = place.start("run", "run_app:app", "--name", "one")
    place.until_ready()
    code, out, _ = place.call("status", "one")
    assert code == 0
    assert out.startswith("run_app:app as one: running, ready")
    assert all(len(line) <= 100 for line in out.splitlines())
    code, out, _ = place.call("status", "--json")
    report = json.loads(out)
    assert (code, report["name"], report["ready"]) == (0, "one", True)
    place.put("a", "b")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(LIMIT) == 0
    assert len(place.seen()) + place.left() == 2
    assert place.call("status", "one")[0] == 3


def test_a_name_in_use_is_refused_and_the_other_goes_on(place: Place) -> None:
    place.start("run", "run_app:app", "--name", "one")
    place.until_ready()
    code, _, err = place.call("run", "run_app:app", "--name", "one")
    assert code == 78
    assert err.endswith("callboard: --name one: a system of this name is running\n")
    assert place.call("status", "one", "--ready")[:2] == (0, "ready\n")


def test_a_broker_that_nobody_finds_ends_a_run_that_does_not_wait_with_69(place: Place) -> None:
    url = "amqp://me:canary@127.0.0.1:1/"
    code, out, err = place.call("run", "run_app:app", "--connection", url, "--no-wait")
    assert code == 69, err
    assert "canary" not in out + err


def test_a_spool_that_cannot_be_used_ends_a_run_with_78(place: Place) -> None:
    (place.path / "file").write_text("")
    code, _, err = place.call("run", "run_app:app", "--connection", f"spool://{place.path}/file/x")
    assert code == 78, err
    assert "Traceback" not in err
