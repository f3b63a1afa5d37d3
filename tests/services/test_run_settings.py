"""A whole run as its settings have it, from a script too; and what it listens on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.services.conftest import Run
from tests.services.worker import REPOSITORY, Place, SpoolPlace, Worker, numbers, put, until_is

SCRIPT = """
from actors import App
from tests.services.apps import note

app = App()

@app.route(["work"], options={"bulk_size": 8})
def work(messages):
    note(messages)

app.run()
"""

LISTENING = "0A"
LOOPBACK = "0100007F"  # 127.0.0.1 as /proc/net/tcp has it


def test_an_unguarded_script_runs_its_app(spool: SpoolPlace, tmp_path: Path) -> None:
    put(spool, "work", *numbers(range(100)))
    (tmp_path / "script.py").write_text(SCRIPT)
    with (tmp_path / "err").open("wb") as err:
        done = subprocess.run(
            [sys.executable, str(tmp_path / "script.py")],
            cwd=tmp_path,
            env={
                **os.environ, **Worker.environment(tmp_path), "PYTHONPATH": str(REPOSITORY),
                "CALLBOARD_CONNECTION": spool.url, "CALLBOARD_BURST": "true",
            },
            stdout=err,
            stderr=err,
            timeout=30,
        )  # fmt: skip
    assert done.returncode == 0, (tmp_path / "err").read_text()
    lines = (tmp_path / "record").read_text().splitlines()
    assert len(lines) == 100
    assert spool.ready("work") == 0


def test_a_flag_beats_a_variable_and_a_variable_the_file(
    spool: SpoolPlace, run: Run, tmp_path: Path
) -> None:
    config = tmp_path / "callboard.toml"
    config.write_text(f'connection = "{spool.url}"\nburst = true\nprefetch = 5\n')
    variable = {"CALLBOARD_PREFETCH": "7"}
    for flags, environment, prefetch in (
        ((), {}, 5),
        ((), variable, 7),
        (("--prefetch", "9"), variable, 9),
    ):
        put(spool, "work", *numbers(range(100)))
        worker = run("plain", "--config", str(config), *flags, **environment)
        assert worker.wait() == 0, worker.output
        assert max(line["bulk"] for line in worker.handled()[-100:]) == prefetch
    assert spool.ready("work") == 0


def test_only_the_routes_that_are_named_are_run(spool: SpoolPlace, run: Run) -> None:
    for queue in ("work", "async", "class"):
        put(spool, queue, *numbers(range(10)))
    flags = ("--route", "async", "--route", "class", "--burst")
    worker = run("every", "--connection", spool.url, *flags)
    assert worker.wait() == 0
    assert Counter(line["queue"] for line in worker.handled()) == {"async": 10, "class": 10}
    assert spool.ready("work") == 10


def test_every_listening_socket_is_on_loopback(place: Place, run: Run) -> None:
    put(place, "work", *numbers(range(100)))
    worker = run("plain", "--connection", place.url)
    until_is(100, lambda: len(worker.times()))
    inodes = {
        os.readlink(entry.path).removeprefix("socket:[").removesuffix("]")
        for pid in worker.living()
        for entry in os.scandir(f"/proc/{pid}/fd")
        if os.readlink(entry.path).startswith("socket:")
    }
    listening = [
        fields[1].partition(":")[0]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == LISTENING and fields[9] in inodes
    ]
    assert len(listening) >= len(worker.status()["actors"])
    assert set(listening) == {LOOPBACK}
    worker.launcher.terminate()
    assert worker.wait() == 0
