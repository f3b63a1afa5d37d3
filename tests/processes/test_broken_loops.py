"""A loop of ours that fails without end ends its process, which is replaced."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.connectors.rabbitmq.connection import RabbitMQClient
from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.file import SpoolFile
from actors.logic.supervision.fuse import FAILURES
from actors.plan.plan import PipelinePlan
from actors.roles.port import Lost
from tests.processes.test_cli_run import Place
from tests.support.thespian_cast import until

#: Handlers that close what they do not own: the descriptors of every loop in their process.
BREAKING = {
    "def": """
@app.route(["words"], options=OPTIONS)
def index(messages):
    work(messages)
""",
    "async def": """
@app.route(["words"], options=OPTIONS)
async def index(messages):
    work(messages)
""",
    "async def, afterwards": """
import asyncio
@app.route(["words"], options=OPTIONS)
async def index(messages):
    work(messages)
    await asyncio.sleep(0.1)
""",
    "def, several at once": """
@app.route(["words"], options=OPTIONS | {Options.IN_FLIGHT: 4})
def index(messages):
    work(messages)
    time.sleep(0.1)
""",
    "a class": """
@app.route(["words"], options=OPTIONS)
class Index(HandlerActor):
    def handle(self, messages):
        work(messages)
""",
}
HEAD = """
import os, pathlib, time
from actors import App, HandlerActor, Options

app = App()
OPTIONS = {Options.MAX_CRASHES: 2}

def work(messages):
    with pathlib.Path("seen").open("a") as file:
        for message in messages:
            file.write(f"{message.body}\\n")
    if any(message.body == "close" for message in messages):
        os.closerange(3, 4096)
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for process in place.started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", BREAKING)
def test_a_handler_that_closes_the_descriptors_of_its_process_is_convicted(
    place: Place, kind: str
) -> None:
    (place.path / "run_app.py").write_text(HEAD + BREAKING[kind])
    place.put("a", "b", "close", "c", "d")
    code, _, err = place.call("run", "run_app:app", "--burst")
    assert code == 0, err[-2000:]
    assert set(place.seen()) == {"a", "b", "c", "d", "close"}
    (letter,) = SpoolAdmin(SpoolFile(place.path / "spool.db")).dead("words")
    assert (letter.body, letter.error) == (b'"close"', "actors.errors.HandlerCrashed")
    assert "alone in a process that died" in letter.reason
    # The loop of user code says so, unless the actor's own has noticed it first.
    assert 1 <= err.count("its loop fails without end") <= place.seen().count("close")
    assert len(err) < 200_000


def test_a_timer_that_closes_the_descriptors_of_its_process_has_it_replaced(place: Place) -> None:
    (place.path / "run_app.py").write_text(
        HEAD
        + """
@app.route(["words"])
def index(messages):
    work(messages)

@app.run_every(0.2)
async def tick(app):
    with pathlib.Path("ticks").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    if len(set(pathlib.Path("ticks").read_text().split())) == 1:
        os.closerange(3, 4096)
"""
    )
    worker = place.start("run", "run_app:app")
    until(lambda: len(pids(place)) == 2, 20.0)
    place.put("a")
    until(lambda: place.seen() == ["a"], 20.0)
    worker.terminate()
    assert worker.wait(30.0) == 0
    err = (place.path / "err").read_text()
    # Its loop for timers and its loop between actors are broken both: either ends the process.
    assert err.count("clock died") == 1
    assert len(err) < 200_000


def pids(place: Place) -> set[str]:
    ticks = place.path / "ticks"
    return set(ticks.read_text().split()) if ticks.exists() else set()


BROKEN = {
    "a loop in a thread": """
from actors.usercode.loops import ThreadLoop
loop = ThreadLoop("a loop in a thread")
loop.post(print)
""",
    "event streams": """
import httpx
from actors.connectors.sse.thread import Bell, StreamThread
StreamThread(httpx.AsyncClient(), Bell(), 60.0).start(1, 1e12, None, "")
""",
    "singleton": """
from actors.connectors.rabbitmq import lock as queuelock
from actors.connectors.rabbitmq.amqp import Settings
import json
queuelock.QueueLock(json.dumps({"host": "127.0.0.1", "port": 1, "user": "guest",
    "password": "guest", "vhost": "/"}), "name")
""",
}


@pytest.mark.parametrize("loop", BROKEN)
def test_a_process_ends_with_a_loop_that_fails_without_end(tmp_path: Path, loop: str) -> None:
    err = tmp_path / "err"
    source = f"import logging, os, time\nlogging.basicConfig()\n{BROKEN[loop]}"
    source += "time.sleep(0.5)\nos.closerange(3, 4096)\ntime.sleep(20)"
    with err.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
        assert process.wait(15.0) == 1
    text = err.read_text()
    assert text.count(f"{loop}: its loop fails without end: this process ends") == 1
    assert len(text) < 50_000


def test_a_connection_whose_loop_fails_each_time_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its owner ends where a turn raises; up to then each failure is a lost connection."""

    def broken(self: IOLoop, timeout: float = 0.0) -> None:
        raise OSError(9, "Bad file descriptor")

    settings = {"host": "127.0.0.1", "port": 1, "user": "u", "password": "p", "vhost": "/"}
    client = RabbitMQClient(
        PipelinePlan("rabbitmq", "amqp", json.dumps(settings), state_dir=str(tmp_path))
    )
    turn = IOLoop.turn
    monkeypatch.setattr(IOLoop, "turn", broken)
    for number in range(FAILURES - 1):
        assert [type(event) for event in client.turn(number * 0.01)] == [Lost]
    with pytest.raises(OSError, match="Bad file descriptor"):
        client.turn(0.2)
    monkeypatch.setattr(IOLoop, "turn", turn)
    client.close()
