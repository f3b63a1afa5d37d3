"""A load with numbered messages while processes are killed at random.

Whatever is killed, nothing is lost, no duplicate is untold, and the system is ready again
within 10 s after the last kill. Only the launcher, the admin and the root end the system:
then the next run finds all that was not settled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from random import Random

import pytest

from tests.services.conftest import Run
from tests.services.worker import Place, Worker, numbers, put, until
from tests.stress.checker import total_queue

SECONDS = float(os.environ.get("CALLBOARD_STRESS_SECONDS", "15"))
PARTS = 40  #: messages that are put at once
ROLES = ("handler", "handler", "handler", "batcher", "connection", "pipeline")
ENDS = ("launcher", "admin", "root")


def strike(worker: Worker, role: str, random: Random) -> None:
    """Kill one process of a role, if there is one just now."""
    report = worker.status()
    pids = [actor["pid"] for actor in report.get("actors", ()) if plays(actor, role)]
    if role == "launcher":
        pids = [worker.launcher.pid]
    if role == "admin":
        pids = [worker.admin]
    if pids := [pid for pid in pids if pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(pids), signal.SIGKILL)


def plays(actor: dict[str, str], role: str) -> bool:
    if role in ("pipeline", "root"):
        return actor["role"] == "supervisor" and (actor["name"] == "root") == (role == "root")
    return actor["role"] == role


@pytest.mark.parametrize("seed", [1])
def test_kills_of_what_is_restarted_lose_nothing(place: Place, run: Run, seed: int) -> None:
    random = Random(seed)
    worker = run("every", "--connection", place.url, PACE="0.005")
    for queue in ("work", "more", "async", "class"):
        place.declare(queue)
    worker.ready(30.0)
    count, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        put(place, "work", *numbers(range(count, count + PARTS)))
        count += PARTS
        strike(worker, random.choice(ROLES), random)
        # Slower than the intensity that a supervisor takes for a fault of its own.
        pause = time.monotonic() + random.uniform(0.2, 2.5)
        until(lambda pause=pause: time.monotonic() > pause)  # type: ignore[misc]
    worker.ready(10.0 + 30.0)
    until(lambda: len(worker.times()) >= count, 60.0, "all handled")
    worker.launcher.terminate()
    assert worker.wait() == 0
    assert place.ready("work") == 0
    total = total_queue(range(count), range(count), worker.handled())
    assert (total.lost, total.unexpected, total.untold) == (0, 0, 0), total


@pytest.mark.parametrize("role", ENDS)
def test_what_a_killed_system_had_in_hand_comes_to_the_next(
    place: Place, run: Run, role: str
) -> None:
    random = Random(role)
    worker = run("plain", "--connection", place.url, PACE="0.01")
    worker.ready()
    put(place, "work", *numbers(range(1000)))
    until(lambda: len(worker.times()) >= 200, 20.0, "under load")
    strike(worker, role, random)
    worker.launcher.wait(10.0)
    until(lambda: not worker.living(), 2.0, "no process outlives its system")
    again = run("plain", "--connection", place.url, "--burst")
    assert again.wait(60.0) == 0
    assert place.ready("work") == 0
    total = total_queue(range(1000), range(1000), again.handled())
    assert (total.lost, total.unexpected, total.untold) == (0, 0, 0), total
