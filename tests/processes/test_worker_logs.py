"""What a worker logs of failures: in full once, then as numbers, whatever the app configured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.publisher import Publisher

ROOT = Path(__file__).parents[2]
CONFIGURED = (
    'logging.config.dictConfig({"version": 1, "handlers": {"c": {"class":'
    ' "logging.StreamHandler"}}, "root": {"handlers": ["c"], "level": "INFO"}})'
)
FAILING = """
import logging, logging.config
from actors import Actions, App, Events
app = App()
{}
@app.route(["q"], options={{Events.ON_EXCEPTION: Actions.ACK}})
def store(messages):
    logging.getLogger("mine").warning("db is at postgres://u:hun'ter2@db/x")
    raise ValueError("no way to amqp://u:ter2 3@h/x")
"""


def run(folder: Path, source: str, messages: int) -> str:
    """The log of a worker that fails on each of these messages."""
    url = f"spool://{folder}/spool.db"
    (folder / "failing.py").write_text(source)
    (folder / "run").mkdir(mode=0o700)
    with Publisher(url) as publisher:
        publisher.put_many("q", [b"1"] * messages)
    with open(folder / "log", "w+b") as log:
        subprocess.run(
            [sys.executable, "-m", "actors", "run", "failing", "--app-dir", str(folder),
             "--connection", url, "--burst"],
            cwd=ROOT, env={**os.environ, "CALLBOARD_RUNTIME_DIR": str(folder / "run")},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60, check=True,
        )  # fmt: skip
    return (folder / "log").read_text()


def test_a_flood_of_failures_is_one_traceback_and_one_number(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in run(tmp_path, FAILING.format(""), 118).splitlines()]
    first, second = [line for line in lines if "the handler raised" in line["msg"]]
    assert "ValueError" in first["exc"]
    assert second["msg"].startswith("route q: the handler raised ValueError 117 more times in ")
    assert second["msg"].endswith("; the last: ValueError: no way to amqp://u:***@h/x")
    assert not [line for line in lines if "ter2" in json.dumps(line)]


@pytest.mark.parametrize("where", ["module", "hook"])
def test_a_configuration_of_the_users_own_leaves_failures_to_be_seen(
    tmp_path: Path, where: str
) -> None:
    hook = f"@app.run_on_startup\ndef configure(app): {CONFIGURED}"
    log = run(tmp_path, FAILING.format(CONFIGURED if where == "module" else hook), 1)
    assert "the handler raised" in log
    assert "Traceback" in log
    assert "amqp://u:***@h/x" in log
