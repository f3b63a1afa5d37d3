"""The spool as a connection sees it, driven as a stage drives it."""

import json
import os
import resource
import select
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.connection import SpoolClient
from actors.connectors.spool.file import SpoolFile
from actors.logic.messages.entry import Entry
from actors.logic.messages.records import Record, unpack
from actors.logic.settlement.copying import Form, Refusal
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import (
    Consuming,
    Depth,
    Fetched,
    Lost,
    Opened,
    Republish,
    Republished,
    RepublishFailed,
    Stopped,
)

LIMIT = 10.0  # seconds until something that does not come counts as missing


class Driver:
    """A client, turned when its descriptor or its deadline says so, as a stage does."""

    def __init__(self, path: Path) -> None:
        self.client = SpoolClient(PipelinePlan("spool", "spool", json.dumps({"path": str(path)})))
        self.events: list[Any] = []
        self.turns = 0
        self.client.open()

    def turn(self, longest: float) -> None:
        deadline = self.client.deadline()
        wait = longest if deadline is None else min(longest, deadline - time.monotonic())
        watched = [self.client.fileno()] if self.client.fileno() >= 0 else []
        readable, _, _ = select.select(watched, [], [], max(0.0, wait))
        if readable or (deadline is not None and time.monotonic() >= deadline):
            self.turns += 1
            self.events += self.client.turn(time.monotonic())

    def until(self, done: Callable[[], Any], limit: float = LIMIT) -> Any:
        end = time.monotonic() + limit
        while not (found := done()):
            assert time.monotonic() < end, self.events
            self.turn(end - time.monotonic())
        return found

    def expect(self, kind: type) -> Any:
        self.until(lambda: any(isinstance(event, kind) for event in self.events))
        index = next(i for i, event in enumerate(self.events) if isinstance(event, kind))
        return self.events.pop(index)

    def fetch(self, number: int) -> list[Record]:
        """So many messages, however many chunks they come in."""
        records: list[Record] = []
        while len(records) < number:
            records += cut(self.expect(Fetched))
        assert len(records) == number
        return records

    def settled(self) -> None:
        """Turn until all that was settled is written."""
        self.until(lambda: not self.client._pending)


def cut(fetched: Fetched) -> list[Record]:
    ends = array("I", fetched.ends)
    starts = [0, *ends[:-1]]
    return [unpack(fetched.blob[a:b]) for a, b in zip(starts, ends, strict=True)]


def bodies(records: list[Record]) -> list[bytes]:
    return [record.body for record in records]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SpoolFile]:
    file = SpoolFile(tmp_path / "spool.db")
    yield file
    file.close()


@pytest.fixture
def start(file: SpoolFile) -> Iterator[Callable[..., Driver]]:
    drivers = []

    def starting(window: int = 100, queue: str = "q") -> Driver:
        driver = Driver(file.path)
        drivers.append(driver)
        driver.expect(Opened)
        driver.client.consume(queue, 1, window)
        driver.expect(Consuming)
        return driver

    yield starting
    for driver in drivers:
        driver.client.close()


Start = Callable[..., Driver]


def put(file: SpoolFile, *texts: str, queue: str = "q", **options: Any) -> list[str]:
    return file.put(queue, [Entry(text.encode(), **options) for text in texts])


def test_messages_come_in_the_order_they_were_put(file: SpoolFile, start: Start) -> None:
    put(file, "a", "b")
    put(file, "c")
    records = start().fetch(3)
    assert bodies(records) == [b"a", b"b", b"c"]
    assert all(record.queue == "q" and record.attempts == 0 for record in records)


def test_what_could_not_be_claimed_while_the_file_was_locked_is_claimed_after(
    file: SpoolFile, start: Start
) -> None:
    driver = start()
    put(file, "a")
    other = sqlite3.connect(file.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    driver.turn(1.0)
    other.execute("ROLLBACK")  # the file is as it was: nothing else tells of a change
    other.close()
    assert bodies(driver.fetch(1)) == [b"a"]


def test_what_was_put_with_a_message_comes_with_it(file: SpoolFile, start: Start) -> None:
    put(file, "a", id="mine", headers={"kind": "word"}, priority=7)
    (record,) = start().fetch(1)
    assert (record.id, record.headers, record.priority) == ("mine", {"kind": "word"}, 7)
    assert abs(record.enqueued - time.time()) < 60


def test_a_higher_priority_comes_first_and_its_order_is_kept(file: SpoolFile, start: Start) -> None:
    put(file, "low")
    put(file, "high 1", "high 2", priority=5)
    put(file, "middle", priority=1)
    assert bodies(start().fetch(4)) == [b"high 1", b"high 2", b"middle", b"low"]


def test_a_delayed_message_comes_when_it_is_due_and_not_before(
    file: SpoolFile, start: Start
) -> None:
    due = time.time() + 0.3
    put(file, "later", delay=0.3)
    put(file, "now")
    driver = start()
    assert bodies(driver.fetch(1)) == [b"now"]
    assert bodies(driver.fetch(1)) == [b"later"]
    assert time.time() >= due


def test_a_due_retry_is_not_starved_by_newer_messages(file: SpoolFile, start: Start) -> None:
    put(file, "old")
    driver = start(window=1)
    driver.fetch(1)
    put(file, "new 1", "new 2")
    driver.client.republish(Republish(1, "q", 1, 1, dead=False, delay=0.0, attempts=1))
    driver.expect(Republished)
    assert bodies(driver.fetch(1)) == [b"old"]


def test_no_more_than_the_window_is_unsettled(file: SpoolFile, start: Start) -> None:
    put(file, *"abcde")
    driver = start(window=2)
    assert bodies(driver.fetch(2)) == [b"a", b"b"]
    driver.turn(0.05)
    assert not driver.events
    driver.client.settle("q", 1, Flush(1, ((1, 1),)))
    assert driver.expect(Fetched).first == 3


def test_a_chunk_is_bounded_by_bytes_but_never_empty(file: SpoolFile, start: Start) -> None:
    big = 6 * 1024 * 1024
    file.put("q", [Entry(bytes(big)), Entry(bytes(big)), Entry(bytes(2 * big))])
    driver = start()
    assert [len(driver.expect(Fetched).blob) // big for _ in range(3)] == [1, 1, 2]


def test_a_put_wakes_an_idle_worker_at_once(file: SpoolFile, start: Start) -> None:
    driver = start()
    driver.turn(0.0)
    ready, _, _ = select.select([driver.client.fileno()], [], [], 0)
    assert not ready
    put(file, "a")
    ready, _, _ = select.select([driver.client.fileno()], [], [], 0)
    assert ready
    driver.turn(0.0)
    assert isinstance(driver.events[-1], Fetched)


def test_a_worker_that_nobody_wakes_finds_messages_within_seconds(
    file: SpoolFile, start: Start
) -> None:
    driver = start()
    with file.transaction() as at:
        at.execute("INSERT INTO message (queue, state, priority) VALUES ('q', 0, 0)")
        at.execute("INSERT INTO content VALUES (last_insert_rowid(), 'i', x'', 0, x'61')")
    assert bodies(driver.fetch(1)) == [b"a"]


def test_an_idle_worker_hardly_turns(start: Start) -> None:
    driver = start()
    driver.turns = 0
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        driver.turn(end - time.monotonic())
    assert driver.turns <= 3


def test_a_worker_with_a_full_window_hardly_turns(file: SpoolFile, start: Start) -> None:
    put(file, *"abc")
    driver = start(window=1)
    driver.fetch(1)
    driver.turns = 0
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        driver.turn(end - time.monotonic())
    assert driver.turns <= 2


def test_settlements_do_what_they_say(file: SpoolFile, start: Start) -> None:
    put(file, "acked", "failed", "returned", "rejected")
    driver = start()
    driver.fetch(4)
    driver.client.settle("q", 1, Flush(1, ((1, 1),), (2,), (3,), (4,)))
    again = driver.expect(Fetched)
    assert again.first == 5
    assert bodies(cut(again)) == [b"failed", b"returned"]
    assert [record.attempts for record in cut(again)] == [1, 0]
    assert again.flagged == ((0, 1),)


def test_a_settlement_twice_or_of_another_epoch_changes_nothing(
    file: SpoolFile, start: Start
) -> None:
    put(file, "a", "b")
    driver = start(window=2)
    driver.fetch(2)
    driver.client.settle("q", 1, Flush(0, ((1, 1),)))
    driver.client.settle("q", 1, Flush(0, ((1, 1),), (1,)))
    driver.client.settle("q", 2, Flush(0, ((2, 2),)))
    driver.settled()
    assert [message.body for message in SpoolAdmin(file).show("q")] == [b"b"]


def test_attempts_are_on_disk_before_anybody_sees_the_message(
    file: SpoolFile, start: Start
) -> None:
    put(file, "a")
    start().fetch(1)
    (message,) = SpoolAdmin(file).show("q")
    assert (message.state, message.attempts) == ("claimed", 1)


def test_a_dead_letter_stays_with_all_there_is_to_say(file: SpoolFile, start: Start) -> None:
    (id,) = put(file, "a", headers={"h": 1})
    driver = start()
    driver.fetch(1)
    driver.client.republish(
        Republish(9, "q", 1, 1, dead=True, route="index", error="app.Broken", reason="no good")
    )
    assert driver.expect(Republished).token == 9
    driver.client.settle("q", 1, Flush(1, ((1, 1),)))  # the connection acknowledges: a no-op
    driver.settled()
    (letter,) = SpoolAdmin(file).dead("q")
    assert (letter.id, letter.body, letter.headers, letter.attempts) == (id, b"a", {"h": 1}, 1)
    assert (letter.reason, letter.error, letter.route) == ("no good", "app.Broken", "index")
    assert letter.died is not None
    assert abs(letter.died - time.time()) < 60


def test_a_dead_letter_that_no_file_holds_takes_none_of_its_neighbours_along(
    file: SpoolFile, start: Start
) -> None:
    put(file, "a", "b", "c")
    driver = start()
    driver.fetch(3)
    letters = [
        Republish(n, "q", 1, n, dead=True, attempts=1, reason="bad \udcff") for n in (1, 2, 3)
    ]
    for letter in letters:
        driver.client.republish(letter if letter.token == 2 else letter._replace(reason="bad"))
    failed = driver.expect(RepublishFailed)
    assert (failed.token, failed.refusal) == (2, Refusal.UNFIT)
    assert {driver.expect(Republished).token for _ in range(2)} == {1, 3}
    driver.client.republish(letters[1]._replace(form=Form.BARE, lacking="no UTF-8"))
    assert driver.expect(Republished).token == 2
    assert {letter.body for letter in SpoolAdmin(file).dead("q")} == {b"a", b"b", b"c"}


def test_what_comes_back_has_the_attempts_that_it_is_told_to_have(
    file: SpoolFile, start: Start
) -> None:
    put(file, "new", "retried", "failed", "returned", "requeued")
    driver = start()
    driver.fetch(5)
    driver.client.republish(Republish(1, "q", 1, 2, dead=False, delay=0.05, attempts=4))
    flush = Flush(failed=(3, 5), returned=(1, 4), told=((3, 7), (4, 1)))
    driver.client.settle("q", 1, flush)
    driver.expect(Republished)
    attempts = {record.body: record.attempts for record in driver.fetch(5)}
    assert attempts == {b"new": 0, b"retried": 4, b"failed": 7, b"returned": 1, b"requeued": 1}


def test_depth_counts_what_is_ready_now(file: SpoolFile, start: Start) -> None:
    put(file, "a", "b", "c")
    put(file, "later", delay=60.0)
    driver = start(window=1)
    driver.fetch(1)
    driver.client.measure("q")
    assert driver.expect(Depth) == Depth("q", 2)


def test_after_cancel_nothing_comes_and_settling_goes_on_until_resume(
    file: SpoolFile, start: Start
) -> None:
    put(file, "a", "b")
    driver = start(window=1)
    driver.fetch(1)
    driver.client.cancel("q", 1)
    driver.expect(Stopped)
    driver.client.settle("q", 1, Flush(1, ((1, 1),)))
    driver.settled()
    driver.turn(0.05)
    assert not driver.events
    driver.client.resume("q", 1)
    driver.expect(Consuming)
    assert driver.expect(Fetched).first == 2


def test_shut_writes_what_was_settled_and_gives_back_the_rest_uncounted(
    file: SpoolFile, start: Start
) -> None:
    put(file, "done", "open")
    driver = start()
    driver.fetch(2)
    driver.client.settle("q", 1, Flush(1, ((1, 1),)))
    driver.client.shut()
    assert driver.expect(Lost).cause == ""
    (left,) = SpoolAdmin(file).show("q")
    assert (left.body, left.state, left.attempts) == (b"open", "ready", 0)
    assert os.listdir(file.owners.path) == []


def test_two_owners_never_hold_one_message(file: SpoolFile, start: Start) -> None:
    put(file, *map(str, range(500)))
    drivers = [start(window=100) for _ in range(3)]
    held = [bodies(driver.fetch(100)) for driver in drivers]
    assert len({body for each in held for body in each}) == 300


def test_a_dead_owners_messages_come_back_counted(file: SpoolFile, start: Start) -> None:
    put(file, "a")
    first = start()
    first.fetch(1)
    first.client.close()  # as a killed process: nothing is said, only the lock is gone
    (record,) = start().fetch(1)
    assert (record.body, record.attempts) == (b"a", 1)


def test_a_living_owner_keeps_what_it_holds(file: SpoolFile, start: Start) -> None:
    put(file, "a")
    start().fetch(1)
    second = start()
    second.client.measure("q")
    assert second.expect(Depth).ready == 0


def test_messages_of_an_owner_without_a_file_are_freed(file: SpoolFile, start: Start) -> None:
    put(file, "a")
    first = start()
    first.fetch(1)
    first.client.close()
    for name in os.listdir(file.owners.path):
        (file.owners.path / name).unlink()
    assert bodies(start().fetch(1)) == [b"a"]


def test_the_file_locked_by_another_delays_and_loses_nothing(file: SpoolFile, start: Start) -> None:
    put(file, "a", "b")
    driver = start(window=1)
    driver.fetch(1)
    with file.transaction():
        driver.client.settle("q", 1, Flush(1, ((1, 1),)))
        for _ in range(3):
            driver.turn(0.05)
        assert not driver.events
    assert bodies(driver.fetch(1)) == [b"b"]


def test_a_file_locked_for_very_long_is_a_loss(
    file: SpoolFile, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.connectors.spool.connection.LOCK_TIMEOUT_S", 0.2)
    put(file, "a")
    driver = start()
    driver.fetch(1)
    with file.transaction():
        driver.client.settle("q", 1, Flush(1, ((1, 1),)))
        assert "locked by another process" in driver.expect(Lost).cause
    driver.client.open()
    driver.expect(Opened)
    driver.client.consume("q", 2, 10)
    assert bodies(driver.fetch(1)) == [b"a"]


def test_a_disk_that_takes_no_more_is_a_loss_with_a_cause_and_nothing_is_lost(
    file: SpoolFile, start: Start
) -> None:
    driver = start()
    put(file, *("word " * 1000 for _ in range(100)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(f"{file.path}-wal"), limits[1]))
    try:
        lost = driver.expect(Lost)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(file.path) in lost.cause
    assert lost.fault == "unreachable"
    assert len(start().fetch(100)) == 100


def test_a_path_that_is_no_good_is_refused(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    lost = driver.expect(Lost)
    assert lost.fault == "refused"
    assert "is a directory" in lost.cause


def test_several_queues_are_served_by_one_client(file: SpoolFile, start: Start) -> None:
    put(file, "a", queue="one")
    put(file, "b", queue="two")
    driver = start(queue="one")
    driver.client.consume("two", 2, 10)
    found = {driver.expect(Fetched).queue for _ in range(2)}
    assert found == {"one", "two"}
