"""Many processes on one spool file, killed at any moment: nothing that was put is lost."""

import json
import multiprocessing
import os
import random
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

import pytest

from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.connection import SpoolClient
from actors.connectors.spool.file import SpoolFile
from actors.logic.messages.entry import Entry
from actors.logic.messages.records import unpack
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import Fetched

SPAWN = multiprocessing.get_context("spawn")
SECONDS = 5.0
ENOUGH = 100  #: messages that are put, however slow the machine


def produce(path: str, journal: str, name: int) -> None:
    """Put for ever; write down each id once `put` has returned for it."""
    file = SpoolFile(Path(path))
    with open(journal, "a", buffering=1) as stored:
        for number in range(1_000_000):
            for id in file.put("q", [Entry(b"x", f"{name}-{number}")], timeout=20.0):
                stored.write(f"{id}\n")


def work(path: str, journal: str, seed: int) -> None:
    """Write down each message that comes, with its attempts, then settle it somehow."""
    client = SpoolClient(PipelinePlan("spool", "spool", json.dumps({"path": path})))
    client.open()
    client.consume("q", 1, 16)
    decide = random.Random(seed)
    with open(journal, "a", buffering=1) as seen:
        while True:
            for event in client.turn(time.monotonic()):
                if isinstance(event, Fetched):
                    client.settle("q", 1, _settled(event, seen, decide))
            wait = (client.deadline() or 0.0) - time.monotonic()
            select.select([client.fileno()], [], [], max(0.0, wait))


def _settled(fetched: Fetched, seen: TextIO, decide: random.Random) -> Flush:
    acked, failed, start = [], [], 0
    for position, end in enumerate(memoryview(fetched.ends).cast("I"), fetched.first):
        record = unpack(fetched.blob[start:end])
        start = end
        fails = decide.random() < 0.1
        seen.write(f"{record.id} {record.attempts} {'failed' if fails else 'acked'}\n")
        if fails:
            failed.append(position)
        else:
            acked.append((position, position))
    return Flush(0, tuple(acked), tuple(failed))


class Crowd:
    """Producers and workers in slots; whoever is killed is followed by another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "spool.db"
        self.processes: dict[str, BaseProcess] = {}
        self.started = 0

    def start(self, slot: str) -> None:
        self.started += 1
        journal = str(self.directory / f"{slot}-{self.started}")
        target: Callable[..., None] = produce if slot.startswith("put") else work
        self.processes[slot] = SPAWN.Process(
            target=target, args=(str(self.path), journal, self.started), daemon=True
        )
        self.processes[slot].start()

    def kill(self, slot: str) -> None:
        process = self.processes.pop(slot)
        assert process.is_alive(), f"{slot} died by itself"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)

    def journals(self, kind: str) -> list[list[str]]:
        """What all of a kind wrote down; the last line of a killed one may be torn."""
        texts = [journal.read_text() for journal in self.directory.glob(f"{kind}-*")]
        return [line.split() for text in texts for line in text.split("\n")[:-1]]


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    crowd = Crowd(tmp_path)
    yield crowd
    for slot in list(crowd.processes):
        crowd.kill(slot)


def test_nothing_put_is_lost_when_producers_and_workers_are_killed(crowd: Crowd) -> None:
    chance = random.Random(7)
    slots = ["put-a", "put-b", "seen-a", "seen-b"]
    for slot in slots:
        crowd.start(slot)
    start = time.monotonic()
    while time.monotonic() < start + SECONDS or len(crowd.journals("put")) <= ENOUGH:
        assert time.monotonic() < start + 60.0, "too few were put"
        time.sleep(chance.uniform(0.1, 0.6))
        victim = chance.choice(slots)
        crowd.kill(victim)
        crowd.start(victim)
    for slot in slots[:2]:
        crowd.kill(slot)

    admin = SpoolAdmin(SpoolFile(crowd.path))
    end = time.monotonic() + 30.0
    while admin.queues():
        assert time.monotonic() < end, admin.queues()
        time.sleep(0.05)

    stored = {id for (id,) in crowd.journals("put")}
    seen = crowd.journals("seen")
    assert len(stored) > ENOUGH
    assert stored - {id for id, _, outcome in seen if outcome == "acked"} == set()
    # Every hand-out is counted before anybody sees the message: no number comes twice.
    hand_outs = Counter((id, attempts) for id, attempts, _ in seen)
    assert [hand_out for hand_out, times in hand_outs.items() if times > 1] == []


def test_a_killed_workers_messages_come_back_to_another_that_was_there(crowd: Crowd) -> None:
    file = SpoolFile(crowd.path)
    file.put("q", [Entry(b"x", f"first-{number}") for number in range(200)])
    holder = SpoolClient(PipelinePlan("spool", "spool", json.dumps({"path": str(crowd.path)})))
    child = os.fork()
    if child == 0:
        try:
            holder.open()
            holder.consume("q", 1, 16)
            holder.turn(time.monotonic())
            signal.pause()
        finally:
            os._exit(1)
    _until(lambda: [count for count in SpoolAdmin(file).queues() if count.claimed == 16])
    crowd.start("seen-other")
    _until(lambda: [count for count in SpoolAdmin(file).queues() if count.ready == 0])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    _until(lambda: not SpoolAdmin(file).queues())
    again = {id for id, attempts, _ in crowd.journals("seen") if attempts != "0"}
    assert {f"first-{number}" for number in range(16)} <= again


def _until(done: Callable[[], object]) -> None:
    end = time.monotonic() + 20.0
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
