"""Django's ORM, which refuses to work where an event loop is running, in a real worker and in
the kit. In processes of their own: Django is set up once in each."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from actors.publisher import Publisher

ROOT = Path(__file__).parents[2]
MODULE = "tests.support.django_app"
QUEUES = ("function", "threads", "awaits", "actor")

IN_THE_KIT = f"""
from {MODULE} import app, create
from actors import Actions
from actors.testing import InMemorySystem

create()
with InMemorySystem(app) as system:
    for queue in {QUEUES}:
        (sent,) = system.deliver(queue, ["a"])
        system.advance(60.0)
        assert sent.actions == [Actions.ACK], (queue, sent.reason)
"""


def python(tmp_path: Path, *arguments: str) -> None:
    with (tmp_path / "log").open("ab") as log:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "DATABASE": str(tmp_path / "words.db"),
                "CALLBOARD_STATE_DIR": str(tmp_path),
                "CALLBOARD_RUNTIME_DIR": str(tmp_path / "run"),
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=60,
        )
    assert done.returncode == 0, (tmp_path / "log").read_text()


@pytest.mark.parametrize("kit", [True, False], ids=["in the kit", "in a worker"])
def test_the_orm_works_wherever_a_def_is_called(tmp_path: Path, kit: bool) -> None:
    if kit:
        python(tmp_path, "-c", IN_THE_KIT)
    else:
        python(tmp_path, "-c", f"from {MODULE} import create; create()")
        url = f"spool://{tmp_path}/spool.db"
        with Publisher(url) as publisher:
            for queue in QUEUES:
                publisher.put(queue, "a")
        python(tmp_path, "-m", "actors", "run", f"{MODULE}:app", "--connection", url, "--burst")
    with sqlite3.connect(tmp_path / "words.db") as db:
        places = Counter(place for (place,) in db.execute("SELECT place FROM words_word"))
    db.close()
    assert {queue: places[queue] for queue in QUEUES} == dict.fromkeys(QUEUES, 1)
    processes = len(QUEUES) + 1  # the clock's too
    assert (places["startup"], places["shutdown"]) == (processes, processes)
    assert (places["acreate"], places["on_stop"]) == (1, 1)
    assert places["timer"] >= 1
