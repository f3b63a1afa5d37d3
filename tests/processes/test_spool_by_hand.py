"""What a hand, another program or an older version left in a spool's file: of any type."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.cli import invoke
from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.connection import SpoolClient
from actors.connectors.spool.file import SpoolFile
from actors.connectors.spool.schema import CLAIMED, DEAD, DELAYED, READY
from actors.logic.messages.entry import Entry
from actors.logic.messages.records import Record
from actors.plan.plan import PipelinePlan
from actors.roles.port import DeadLettered, Fetched, Lost
from tests.processes.test_spool_client import cut

LIMIT = 10.0

#: Values of every type that SQLite has; the text is no UTF-8.
BROKEN = "CAST(x'ff61ff' AS TEXT)"
ANY = ["NULL", "1.5", "-1", "7", str(2**62), "9e999", "'high'", "''", BROKEN, "x'00ff'", "x''"]
STATES = {"message": range(4), "content": (READY, DEAD)}
COLUMNS = {
    "message": "queue state priority attempts not_before owner died reason error route",
    "content": "id headers enqueued body",
}
CASES = [
    (table, column, value, state)
    for table, columns in COLUMNS.items()
    for column in columns.split()
    for value in ANY
    for state in STATES[table]
]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SpoolFile]:
    file = SpoolFile(tmp_path / "spool.db")
    yield file
    file.close()


def write_by_hand(path: Path, *statements: str) -> None:
    """As any SQLite client does it, on a file without its constraints: an older one, say."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '')"
            " WHERE tbl_name IN ('message', 'content')"
        )
        connection.execute("PRAGMA writable_schema = RESET")
        for statement in statements:
            connection.execute(statement)
    connection.close()


class Worker:
    """A client, turned by hand until it has come to rest."""

    def __init__(self, path: Path) -> None:
        self.client = SpoolClient(PipelinePlan("spool", "spool", json.dumps({"path": str(path)})))
        self.records: list[Record] = []
        self.dead_lettered: list[str] = []
        self.client.open()
        self.client.consume("q", 1, 100)

    def until(self, done: Callable[[], Any]) -> None:
        end = time.monotonic() + LIMIT
        while not done():
            assert time.monotonic() < end, (self.records, self.dead_lettered)
            for event in self.client.turn(time.monotonic()):
                assert not isinstance(event, Lost), event
                if isinstance(event, Fetched):
                    self.records += cut(event)
                if isinstance(event, DeadLettered):
                    self.dead_lettered += event.reasons

    @property
    def ids(self) -> set[str]:
        return {record.id for record in self.records}


def odd_one(file: SpoolFile, table: str, column: str, value: str, state: int) -> None:
    """A message "odd" in this state with such a value, and a good one behind it."""
    file.put("q", [Entry(b"odd", id="odd"), Entry(b"good", id="good")])
    seq = "(SELECT seq FROM content WHERE id = 'odd')"
    file.close()
    write_by_hand(
        file.path,
        f"UPDATE message SET state = {state}, owner = '0123456789abcdef', not_before = 1,"
        f" died = 1, reason = 'why', error = 'E', route = 'r' WHERE seq = {seq}",
        f"UPDATE {table} SET {column} = {value} WHERE seq = {seq}",
    )


@pytest.mark.parametrize(("table", "column", "value", "state"), CASES)
def test_a_value_of_any_type_in_any_column_kills_nobody_and_loses_nothing(
    file: SpoolFile, table: str, column: str, value: str, state: int
) -> None:
    odd_one(file, table, column, value, state)
    worker = Worker(file.path)
    worker.until(lambda: "good" in worker.ids)
    worker.until(lambda: not worker.client._changed)
    admin = SpoolAdmin(file)
    count = {c.queue: c for c in admin.queues()}
    assert sum(c.ready + c.delayed + c.claimed + c.dead for c in count.values()) == 2
    if (column, value) == ("queue", BROKEN):
        return  # a queue that nobody consumes: it is listed
    stayed = [
        *(m for queue in count for m in admin.show(queue) if m.state != "claimed"),
        *(m for queue in count for m in admin.dead(queue)),
    ]
    assert len(worker.records) + len(stayed) == 2
    if worker.dead_lettered:
        (reason,) = worker.dead_lettered
        assert [m.reason for m in stayed] == [reason]
        assert column in reason
    worker.client.close()


@pytest.mark.parametrize("state", [READY, DELAYED])
@pytest.mark.parametrize("column", ["priority", "attempts"])
@pytest.mark.parametrize("value", ["1.5", "-1", str(2**62), "'high'", "x'00'"])
def test_what_cannot_be_packed_into_a_record_is_a_dead_letter_with_the_reason(
    file: SpoolFile, column: str, value: str, state: int
) -> None:
    odd_one(file, "message", column, value, state)
    worker = Worker(file.path)
    worker.until(lambda: worker.dead_lettered and worker.ids)
    (letter,) = SpoolAdmin(file).dead("q")
    assert (letter.id, letter.body) == ("odd", b"odd")
    assert letter.error == "actors.errors.InvalidMessage"
    assert f"{column} is " in letter.reason
    assert worker.ids == {"good"}
    # It was mended: who redrives it gets it.
    SpoolAdmin(file).redrive("q")
    worker.until(lambda: "odd" in worker.ids)
    worker.client.close()


def test_a_message_without_content_is_a_dead_letter(file: SpoolFile) -> None:
    file.put("q", [Entry(b"odd", id="odd"), Entry(b"good", id="good")])
    file.close()
    write_by_hand(file.path, "DELETE FROM content WHERE id = 'odd'")
    worker = Worker(file.path)
    worker.until(lambda: worker.dead_lettered and worker.ids)
    assert [letter.reason for letter in SpoolAdmin(file).dead("q")] == [
        "id, headers or body is missing"
    ]
    assert SpoolAdmin(file).purge_dead("q")
    worker.client.close()


def test_an_owner_that_is_a_path_is_nobody_and_its_file_stays(
    file: SpoolFile, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    odd_one(file, "message", "owner", "'../precious'", CLAIMED)
    worker = Worker(file.path)
    worker.until(lambda: worker.ids == {"odd", "good"})
    assert precious.read_text() == "mine"
    worker.client.close()


def test_text_and_numbers_as_a_body_are_read_as_the_bytes_they_look_like(file: SpoolFile) -> None:
    odd_one(file, "content", "body", """'{"word": "ä"}'""", READY)
    worker = Worker(file.path)
    worker.until(lambda: len(worker.ids) == 2)
    assert '{"word": "ä"}'.encode() in [record.body for record in worker.records]
    worker.client.close()


@pytest.mark.parametrize(
    ("table", "column", "value"), [case[:3] for case in CASES if case[3] == DEAD]
)
def test_people_can_look_at_and_empty_a_file_that_no_worker_has_mended(
    file: SpoolFile, table: str, column: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    odd_one(file, table, column, value, DEAD)
    url = f"--connection=spool://{file.path}"
    for verb in (
        ["spool", "list"], ["spool", "list", "--json"], ["spool", "show", "q"],
        ["dead", "list", "q"], ["dead", "list", "q", "--json"],
        ["dead", "show", "q"], ["dead", "show", "q", "--json"],
        ["dead", "redrive", "q", "--dry-run"], ["dead", "redrive", "q"],
        ["dead", "purge", "q", "--yes"], ["spool", "purge", "q", "--yes"],
    ):  # fmt: skip
        assert invoke([*verb, url]) == 0, (verb, capsys.readouterr().err)
        out = capsys.readouterr().out
        if verb[-1] == "--json":
            for line in out.splitlines():
                json.loads(line, parse_constant=pytest.fail)


def test_a_database_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "wide.db") as connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("DROP TABLE t")
    connection.close()
    code = invoke(["spool", "list", f"--connection=spool://{tmp_path}/wide.db"])
    assert code == 78
