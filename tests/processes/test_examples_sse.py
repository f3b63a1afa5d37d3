"""The example on event streams that async-worker's users know, moved by one `sed`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import Actions
from actors.testing import InMemorySystem
from tests.support.moved import load, moved
from tests.support.sse_server import SSEServer, stream

REPOSITORY = Path(__file__).parents[2]

WORKER = """
from asyncworker.options import Options
from asyncworker.sse.app import SSEApplication
import logging

app = SSEApplication(url="http://172.18.0.31:8080/", logger=logging.getLogger())

@app.route(["/v2/events"], options={Options.BULK_SIZE: 2, Options.BULK_FLUSH_INTERVAL: 60})
async def _on_event(events):
    event_names = [e.name for e in events]
    print(f"Events received: {len(events)} {event_names}")
    for event in events:
        data = ""
        if event.name == 'deployment_info':
            data = event.body['plan']['id']
        if event.name == 'deployment_success':
            data = event.body['id']
        if event.name == 'status_update_event':
            body = event.body
            data = f"app={body['appId']}, task={body['taskId']} ({body['taskStatus']})"

        print(f"Event Received: {event.name} {data}")
"""

MAIN = """
from myworker import app

app.run()
"""

EVENTS = [
    ("deployment_info", {"plan": {"id": "d-1"}}),
    ("status_update_event", {"appId": "/a", "taskId": "t-1", "taskStatus": "TASK_RUNNING"}),
    ("deployment_success", {"id": "d-1"}),
    ("deployment_info", {"plan": {"id": "d-2"}}),
]

PRINTED = [
    "Events received: 2 ['deployment_info', 'status_update_event']",
    "Event Received: deployment_info d-1",
    "Event Received: status_update_event app=/a, task=t-1 (TASK_RUNNING)",
    "Events received: 2 ['deployment_success', 'deployment_info']",
    "Event Received: deployment_success d-1",
    "Event Received: deployment_info d-2",
]


def test_events_come_in_bulks_of_two() -> None:
    """B49"""
    lines: list[str] = []
    worker = load(WORKER, print=lines.append)
    with InMemorySystem(worker.app) as system:
        for count, (name, body) in enumerate(EVENTS, 1):
            system.deliver("/v2/events", [body], headers={"event": name, "id": str(count)})
            assert len(lines) == count // 2 * 3
    assert lines == PRINTED


def test_a_last_event_that_is_alone_comes_once_it_is_old() -> None:
    lines: list[str] = []
    worker = load(WORKER, print=lines.append)
    with InMemorySystem(worker.app) as system:
        (sent,) = system.deliver("/v2/events", [{"id": "d-1"}], headers={"event": "other"})
        system.advance(59)
        assert lines == []
        system.advance(1)
        assert lines == ["Events received: 1 ['other']", "Event Received: other "]
        assert sent.actions == [Actions.ACK]


@pytest.fixture
def server() -> Iterator[SSEServer]:
    blocks = [
        f"id: {number}\nevent: {name}\ndata: {json.dumps(body)}\n\n"
        for number, (name, body) in enumerate(EVENTS, 1)
    ]
    with SSEServer(stream(*blocks, hold=True)) as server:
        yield server


def until(look: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_script_prints_the_deployments_of_a_real_server(
    server: SSEServer, tmp_path: Path
) -> None:
    source = moved(WORKER).replace("http://172.18.0.31:8080/", server.url)
    (tmp_path / "myworker.py").write_text(source)
    (tmp_path / "main.py").write_text(MAIN)
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        worker = subprocess.Popen(
            [sys.executable, "main.py"],
            cwd=tmp_path,
            env={
                **os.environ,
                "CALLBOARD_RUNTIME_DIR": str(tmp_path / "run"),
                "CALLBOARD_STATE_DIR": str(tmp_path / "state"),
                "PYTHONPATH": str(REPOSITORY),
                "PYTHONUNBUFFERED": "1",
            },
            stdout=stdout,
            stderr=stderr,
        )
    try:
        until(lambda: len(out.read_text().splitlines()) >= len(PRINTED) or worker.poll())
        assert out.read_text().splitlines() == PRINTED, err.read_text()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0, err.read_text()
    finally:
        worker.kill()
        worker.wait(5)
    assert [request.path for request in server.requests] == ["/v2/events"]
    assert server.requests[0].headers["accept"] == "text/event-stream"
