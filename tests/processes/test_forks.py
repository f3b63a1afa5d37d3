"""Import once, fork many: what belongs to each process is begun in it, and ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors import Publisher

ROOT = Path(__file__).parents[2]

APP = """
import atexit, logging, logging.handlers, os, queue, signal, time
from actors import App, Options

app = App()


def say(*words):
    with open(os.environ["OUT"], "a") as out:
        out.write(" ".join(map(str, words)) + "\\n")


atexit.register(say, "the importer's", os.getpid())
logger = logging.getLogger("mine")
logger.setLevel("INFO")
logger.propagate = False


@app.run_on_startup
def begin(app):
    records = queue.Queue()
    listener = logging.handlers.QueueListener(records, logging.FileHandler(os.environ["OUT"]))
    listener.start()
    logger.handlers[:] = [logging.handlers.QueueHandler(records)]
    atexit.register(listener.stop)
    atexit.register(say, "atexit of", os.getpid())
    if os.environ["WAY"] == "raises":
        atexit.register(lambda: 1 / 0)
    if os.environ["WAY"] == "lasts":
        atexit.register(time.sleep, 3600)


@app.run_on_shutdown
def end(app):
    say("shutdown of", os.getpid())


@app.route(["q"], options={Options.MAX_MESSAGES: 100} if os.environ["WAY"] == "replaced" else {})
def handle(messages):
    logger.info("handled by %d", os.getpid())
    if os.environ["WAY"] == "killed" and messages[0].attempts == 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def run(place: Path, way: str, messages: int = 1) -> list[str]:
    (place / "forking.py").write_text(APP)
    url = f"spool://{place}/s.db"
    with Publisher(url) as publisher:
        for number in range(messages):
            publisher.put("q", number)
    with (place / "log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "actors", "run", "forking:app", "--connection", url, "--burst"],
            cwd=place,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "CALLBOARD_STATE_DIR": str(place),
                "CALLBOARD_RUNTIME_DIR": str(place / "run"),
                "OUT": str(place / "out"),
                "WAY": way,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=60,
        )
    assert done.returncode == 0, (place / "log").read_text()
    return (place / "out").read_text().splitlines()


def pids(lines: list[str], what: str) -> list[str]:
    return [line.removeprefix(what) for line in lines if line.startswith(what)]


@pytest.mark.parametrize("way", ["plain", "raises", "replaced"])
def test_atexit_runs_in_each_handler_process_after_its_hooks(tmp_path: Path, way: str) -> None:
    lines = run(tmp_path, way, messages=600 if way == "replaced" else 1)
    handled, ended = pids(lines, "handled by "), pids(lines, "atexit of ")
    assert set(handled) <= set(ended)
    assert len(ended) == len(set(ended)) == len(pids(lines, "shutdown of "))
    for pid in ended:
        assert lines.index(f"shutdown of {pid}") < lines.index(f"atexit of {pid}")
    if way == "replaced":
        assert len(set(handled)) > 1
    assert len(pids(lines, "the importer's ")) == 1  # in the launcher, and nowhere else


def test_a_process_that_is_killed_runs_none_of_it(tmp_path: Path) -> None:
    lines = run(tmp_path, "killed")
    assert len(pids(lines, "handled by ")) >= 1
    assert len(pids(lines, "atexit of ")) == 1  # of its successor


def test_an_exit_function_that_lasts_is_given_up(tmp_path: Path) -> None:
    began = time.monotonic()
    lines = run(tmp_path, "lasts")
    assert time.monotonic() - began < 45.0
    assert len(pids(lines, "handled by ")) == 1
    assert "what atexit runs did not end within 10 s" in (tmp_path / "log").read_text()


def test_threads_that_the_import_began_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "threading_app.py").write_text(
        "import threading\n"
        "from actors import App\n"
        "app = App()\n"
        "gate = threading.Event()\n"
        "threading.Thread(target=gate.wait, name='exporter', daemon=True).start()\n"
        "app.route(['q'])(lambda messages: None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "actors", "check", "threading_app:app"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "importing the app began threads (exporter)" in done.stdout + done.stderr
