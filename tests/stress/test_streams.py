"""Event streams that misbehave: each event is handled once, and the stream is found again."""

from __future__ import annotations

import os

import pytest

from tests.services.conftest import Run
from tests.services.worker import Worker, until, until_is
from tests.stress.rig import memory, stop
from tests.support.sse_server import Answer, SSEServer, Wire, status, stream

APP = "tests.stress.apps:stream"
COUNT = 10


def event(number: int) -> str:
    return f'id: {number}\ndata: {{"n": {number}}}\n\n'


def endless(wire: Wire) -> None:
    """A line of 64 MiB without an end."""
    wire.head(content_type="text/event-stream")
    for _ in range(1024):
        wire.write(b"x" * 65536)


def noise(wire: Wire) -> None:
    wire.head(content_type="text/event-stream")
    wire.write(os.urandom(1 << 20).replace(b"data", b"date"))


FIRST = stream(*map(event, range(COUNT)), hold=False, reset=True)
LAST = stream(event(COUNT))

FAULTS: dict[str, list[Answer]] = {
    "stalls": [stream(*map(event, range(COUNT)))],  # and is given up after 2 s of silence
    "flaps": [FIRST, *[stream(hold=False)] * 4],
    "breaks": [FIRST, *[status("503 Busy", b"later")] * 3],
    "noise": [FIRST, noise],
    "half an event": [FIRST, stream(f"id: {COUNT}\ndata: {{", hold=False)],
    "repeats": [FIRST, FIRST, stream(*map(event, range(5)), hold=False)],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stream_that_misbehaves_is_read_on_within_35_seconds(run: Run, fault: str) -> None:
    with SSEServer(*FAULTS[fault], LAST) as server:
        worker = run(APP, STREAM=server.url)
        until_is(set(range(COUNT + 1)), lambda: set(worker.times()), 15.0 + 35.0)
        (pid,) = worker.pids("connection")
        assert memory(pid, "VmHWM") < 120 << 20
        assert server.requests[-1].headers["last-event-id"] == str(COUNT - 1)
        stop(worker)
    assert all(times == 1 for times in worker.times().values())
    assert "died: " not in worker.output
    assert "Traceback" not in worker.output


def test_a_line_without_an_end_is_cut_off_and_asked_for_again_in_a_minute(run: Run) -> None:
    with SSEServer(FIRST, endless) as server:
        worker = run(APP, STREAM=server.url)
        until_is(set(range(COUNT)), lambda: set(worker.times()))
        until(lambda: "a line of more than" in worker.output, 35.0)
        report = worker.status()
        assert not report["ready"]
        (pid,) = (actor["pid"] for actor in report["actors"] if actor["role"] == "connection")
        assert memory(pid, "VmHWM") < 120 << 20
        stop(worker)
    assert "Traceback" not in worker.output


def test_a_page_in_the_place_of_a_stream_is_a_mistake_to_be_mended(run: Run) -> None:
    with SSEServer(status("200 OK", b"<html>", content_type="text/html")) as server:
        worker = run(APP, STREAM=server.url)
        assert worker.wait() == 78
    assert "the content type is 'text/html'" in worker.output.splitlines()[-1]


def test_a_restart_of_the_worker_begins_after_what_was_handled(run: Run) -> None:
    with SSEServer(stream(*map(event, range(COUNT)))) as server:
        worker = run(APP, STREAM=server.url)
        until_is(COUNT, lambda: len(worker.times()))
        stop(worker)
        server.answers = [LAST]
        again: Worker = run(APP, STREAM=server.url)
        until(lambda: COUNT in again.times())
        assert server.requests[-1].headers["last-event-id"] == str(COUNT - 1)
        stop(again)
    assert all(times == 1 for times in again.times().values())
