"""Guarantee 3: whatever a handler has had comes again as such, by every road and connection."""

from __future__ import annotations

import json
import os
import signal
from collections import defaultdict
from typing import Any

import pytest

from actors import Actions, App
from actors.api.message import Message
from actors.testing import InMemorySystem
from tests.services.conftest import Run
from tests.services.told_app import make
from tests.services.worker import Place, Worker, put, until

APP = "tests.services.told_app:app"
ORDERS = ["", "routing_key"]
Told = list[tuple[bool, int]]


def recorded(worker: Worker) -> dict[int, Told]:
    """How each message came, in order."""
    told: dict[int, Told] = defaultdict(list)
    record = worker.directory / "record"
    for text in record.read_text().splitlines() if record.exists() else ():
        line = json.loads(text)
        told[line["n"]].append((line["told"], line["attempts"]))
    return told


def is_told(hand_outs: Told) -> None:
    """The first is new, every other is not, and no count is ever taken back."""
    first, *others = hand_outs
    assert first == (False, 0)
    assert others
    assert all(again and attempts >= 1 for again, attempts in others), hand_outs
    counts = [attempts for _, attempts in hand_outs]
    assert counts == sorted(counts), hand_outs


@pytest.mark.parametrize("order_by", ORDERS)
@pytest.mark.parametrize(
    ("road", "table"),
    [("snooze", ""), ("reject", ""), ("reject for a while", ""), ("raise", "retry"),
     ("raise", "requeue"), ("die", "")],
)  # fmt: skip
def test_what_comes_back_while_its_worker_runs_is_told_so(
    place: Place, run: Run, road: str, table: str, order_by: str
) -> None:
    put(place, "work", {"n": 1}, {"n": 2})
    told = {"ROAD": road, "TABLE": table, "ORDER_BY": order_by}
    worker = run(APP, "--connection", place.url, **told)
    until(lambda: worker.totals().get("acked") == 2)
    worker.launcher.terminate()
    assert worker.wait() == 0
    for hand_outs in recorded(worker).values():
        is_told(hand_outs)


@pytest.mark.parametrize("order_by", ORDERS)
@pytest.mark.parametrize(
    "road",
    ["snooze", "snooze for a minute", "reject for long", "one for long", "raise"],
)  # fmt: skip
def test_what_a_drained_worker_gave_back_is_told_so_to_the_next(
    place: Place, run: Run, road: str, order_by: str
) -> None:
    put(place, "work", {"n": 1}, {"n": 2})
    told = {"ROAD": road, "ORDER_BY": order_by, "TIMES": "1000"}
    worker = run(APP, "--connection", place.url, **told)
    until(lambda: len(recorded(worker)) == 2)
    worker.launcher.terminate()
    assert worker.wait() == 0
    had = {n: len(hand_outs) for n, hand_outs in recorded(worker).items()}
    worker = run(APP, "--connection", place.url, ORDER_BY=order_by)
    until(lambda: worker.totals().get("acked") == 2)
    worker.launcher.terminate()
    assert worker.wait() == 0
    for n, hand_outs in recorded(worker).items():
        assert len(hand_outs) == had[n] + 1
        is_told(hand_outs)


@pytest.mark.parametrize("order_by", ORDERS)
def test_what_a_killed_worker_had_in_hand_is_told_so_to_the_next(
    place: Place, run: Run, order_by: str
) -> None:
    put(place, "work", {"n": 1})
    told = {"ROAD": "hang", "ORDER_BY": order_by, "TIMES": "1000"}
    worker = run(APP, "--connection", place.url, **told)
    until(lambda: recorded(worker))
    os.killpg(worker.launcher.pid, signal.SIGKILL)
    worker.launcher.wait()
    worker = run(APP, "--connection", place.url, ORDER_BY=order_by)
    until(lambda: worker.totals().get("acked") == 1)
    worker.launcher.terminate()
    assert worker.wait() == 0
    is_told(recorded(worker)[1])


@pytest.mark.parametrize("kind", ["spool", "amqp"])
@pytest.mark.parametrize("order_by", ORDERS)
@pytest.mark.parametrize(
    ("road", "table"),
    [("snooze", ""), ("snooze for long", ""), ("reject", ""), ("reject for a while", ""),
     ("reject for long", ""), ("one for long", ""), ("raise", "retry"), ("raise", "requeue"),
     ("die", "")],
)  # fmt: skip
def test_the_test_kit_tells_the_same(kind: str, road: str, table: str, order_by: str) -> None:
    told: dict[int, Told] = defaultdict(list)

    def record(message: Message[Any]) -> None:
        told[message.body["n"]].append((message.redelivered, message.attempts))

    app = App() if kind == "spool" else App(host="127.0.0.1")
    make(app, "" if road == "die" else road, 3, record, order_by, table)
    with InMemorySystem(app, raise_errors=False) as system:
        if road == "die":
            system.kill("handler", lambda message: True)
        sent = system.deliver("work", [{"n": 1}, {"n": 2}])
        system.advance(300.0)
        assert [one.actions[-1] for one in sent] == [Actions.ACK, Actions.ACK]
    if road == "die":
        assert [one.attempts for one in sent] == [2, 2]  # of the first nothing was recorded
        told = {n: [(False, 0), *hand_outs] for n, hand_outs in told.items()}
    for hand_outs in told.values():
        is_told(hand_outs)
