"""A whole run to its end: everything handled once, and what `status` says meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.services.conftest import Run
from tests.services.worker import Place, Worker, numbers, put, until

REPORT = {"app", "name", "version", "state", "ready", "since", "actors", "routes", "totals"}
ACTOR = {"role", "name", "pid", "host", "route", "state", "reason", "restarts"}
COUNTS = {"received", "acked", "rejected", "requeued", "retried", "dead", "in_flight"}


def status(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "actors", "status", *arguments],
        env={**os.environ, **Worker.environment(directory)},
        capture_output=True,
        text=True,
        timeout=20,
    )


def test_a_burst_handles_all_once_and_leaves_the_queue_empty(place: Place, run: Run) -> None:
    put(place, "work", *numbers(range(2000)))
    worker = run("plain", "--connection", place.url, "--burst")
    assert worker.wait() == 0
    assert worker.times() == Counter(range(2000))
    assert max(line["bulk"] for line in worker.handled()) == 64
    assert place.ready("work") == 0
    assert "Traceback" not in worker.output


def test_every_kind_of_handler_on_several_queues_and_routes(place: Place, run: Run) -> None:
    queues = ("work", "more", "async", "class")
    for number, queue in enumerate(queues):
        place.declare(queue)
        put(place, queue, *numbers(range(500 * number, 500 * number + 500)))
    worker = run("every", "--connection", place.url, "--burst")
    assert worker.wait() == 0
    assert worker.times() == Counter(range(2000))
    handled = worker.handled()
    assert {(line["queue"], line["route"]) for line in handled} == {
        ("work", "work"), ("more", "work"), ("async", "async"), ("class", "class"),
    }  # fmt: skip
    pids = {queue: {line["pid"] for line in handled if line["queue"] == queue} for queue in queues}
    assert len(pids["work"] | pids["more"]) == 2
    assert len(pids["async"]) == len(pids["class"]) == 1
    assert all(line["born"] == line["pid"] for line in handled if line["queue"] == "class")
    assert [place.ready(queue) for queue in queues] == [0, 0, 0, 0]


def test_an_empty_burst_ends(place: Place, run: Run) -> None:
    assert run("plain", "--connection", place.url, "--burst").wait() == 0


def test_status_of_a_running_system_has_the_documented_shape(
    place: Place, run: Run, tmp_path: Path
) -> None:
    put(place, "work", *numbers(range(100)), {"n": 100, "do": "wait"})
    (tmp_path / "record.gate").touch()
    worker = run("plain", "--connection", place.url)
    worker.ready()
    until(lambda: worker.status()["totals"]["acked"] == 64)
    answer = status(tmp_path, "--json")
    report = json.loads(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert report.keys() == REPORT
    assert (report["name"], report["app"]) == ("test", "tests.services.apps:plain")
    assert (report["state"], report["ready"]) == ("running", True)
    assert {actor["role"] for actor in report["actors"]} == {
        "supervisor", "connection", "batcher", "handler",
    }  # fmt: skip
    assert all(actor.keys() == ACTOR for actor in report["actors"])
    (route,) = report["routes"]
    assert route.keys() - {"waiting"} == COUNTS | {"name", "oldest_s", "last_error"}  # of a spool
    assert (route["name"], route["received"], route["acked"]) == ("work", 101, 64)
    assert route["in_flight"] == 37
    assert 0 < route["oldest_s"] < 60
    assert report["totals"].keys() == COUNTS | {"stale", "replies_lost"}
    assert status(tmp_path, "test", "--ready").stdout == "ready\n"
    page = status(tmp_path)
    assert page.returncode == 0, page.stderr
    assert "ready" in page.stdout
    (tmp_path / "record.gate").unlink()
    worker.launcher.terminate()
    assert worker.wait() == 0
    after = status(tmp_path, "test")
    assert (after.returncode, after.stderr) == (3, "callboard: nothing runs under the name test\n")
