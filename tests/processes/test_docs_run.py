"""Every example of a page runs as it is written, from an empty folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.testing import InMemorySystem
from tests.fast.test_docs import PYTHON, ROOT

MESSAGE = '{"id": 1, "total": 9.5}\n'

APPS = [
    pytest.param(block, id=f"{page}-{number}")
    for number, (page, block) in enumerate(PYTHON)
    if re.search(r"^app = App\(", block, re.MULTILINE)
]


def is_served(block: str) -> bool:
    return "@app.route(" in block and "SSEConnection" not in block


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`callboard …` as one types it in the folder, its output in a file there."""
    with open(folder / "output", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "actors", *arguments],
            cwd=folder,
            env={
                "PYTHONPATH": str(ROOT),
                "PATH": os.environ["PATH"],
                "CALLBOARD_STATE_DIR": str(folder / "state"),
                "CALLBOARD_RUNTIME_DIR": str(folder / "run"),
                "CALLBOARD_ADMIN_PORT": "0",
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def typed(folder: Path, *arguments: str) -> str:
    """What it prints, once it has ended well."""
    before = (folder / "output").stat().st_size if (folder / "output").exists() else 0
    code = start(folder, *arguments).wait(90)
    told = (folder / "output").read_bytes()[before:].decode()
    assert code == 0, told
    return told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for private in ("state", "run"):
        (tmp_path / private).mkdir(mode=0o700)
    return tmp_path


@pytest.mark.parametrize("block", [one for one in APPS if is_served(str(one.values[0]))])
def test_an_app_of_a_page_handles_what_is_put_into_its_queues(block: str, folder: Path) -> None:
    (folder / "example.py").write_text(block)
    (folder / "lines").write_text(MESSAGE * 3)
    spool = ("--connection", "spool:")
    queues = re.findall(r'@app.route\(\s*\[(?:Queue\()?"(\w+)"', block)
    assert queues
    for queue in queues:
        typed(folder, "publish", queue, "lines", *spool)
    typed(folder, "check", "example:app", *spool)
    told = typed(folder, "run", "example:app", "--burst", *spool)
    assert "ERROR" not in told, told
    assert "Traceback" not in told, told
    for queue in queues:
        assert "no dead letters" in typed(folder, "dead", "list", queue, *spool)
    assert not re.search(r"\b[1-9]", typed(folder, "spool", "list", *spool))


@pytest.mark.parametrize("block", [one for one in APPS if "run_every" in str(one.values[0])])
def test_a_timer_of_a_page_puts_its_message(block: str, folder: Path) -> None:
    (folder / "example.py").write_text(block)
    worker = start(folder, "run", "example:app")
    try:
        deadline = time.monotonic() + 60
        while not (
            (folder / "state/spool.db").exists()
            and "orders" in typed(folder, "spool", "list", "--connection", "spool:")
        ):
            time.sleep(0.1)
            assert worker.poll() is None, (folder / "output").read_text()
            assert time.monotonic() < deadline, (folder / "output").read_text()
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert "ERROR" not in (folder / "output").read_text()


#: What a task of a page is called with, and what it returns.
CALLS = {
    "resize": ('{"path": "a.png"}', '"a.png at 800"'),
    "mail": ('["a@b.c", "Hi"]', "null"),
    "clean": ('[["a", "b"]]', "2"),
    "train": ('["m"]', "1"),
    "embed": ('["hello"]', "5"),
    "add": ("[2, 3]", "5"),
}


@pytest.mark.parametrize("block", [one for one in APPS if "task(" in str(one.values[0])])
def test_the_tasks_of_a_page_are_called_and_answer(block: str, folder: Path) -> None:
    (folder / "example.py").write_text(block)
    own = re.search(r'SpoolConnection\("(.*?)"\)', block)
    spool = ("--connection", f"spool:{own[1] if own else ''}")
    worker = start(folder, "run", "example:app", *([] if own else spool))
    try:
        for task in re.findall(r'task\("(\w+)"', block):
            arguments, result = CALLS[task]
            assert typed(folder, "call", task, arguments, *spool).splitlines()[-1] == result
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert "ERROR" not in (folder / "output").read_text()


@pytest.mark.parametrize("block", [one for one in APPS if "SSEConnection" in str(one.values[0])])
def test_an_app_of_event_streams_shows_its_events(
    block: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {}
    exec(block, names)
    with InMemorySystem(names["app"]) as system:  # type: ignore[arg-type]
        sent = system.deliver("/v1/deployments", [{"a": 1}, b"text"], headers={"event": "new"})
        system.advance(60.0)
        assert {str(action) for one in sent for action in one.actions} == {"ack"}
    assert capsys.readouterr().out == "new 1 {'a': 1}\nnew 2 text\n"


def test_every_app_of_a_page_is_run_by_one_of_these() -> None:
    blocks = [str(one.values[0]) for one in APPS]
    assert len(blocks) >= 6
    elsewhere = "import sentry_sdk"  # needs packages of others, and a server to send to
    assert all(
        "@app.route(" in block or "task(" in block or "run_every" in block or elsewhere in block
        for block in blocks
    )
