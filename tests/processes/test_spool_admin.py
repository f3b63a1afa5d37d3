"""What people do to a spool from outside."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.connectors.spool.admin import DeadFilter, QueueCount, SpoolAdmin
from actors.connectors.spool.connection import SpoolClient
from actors.connectors.spool.file import SpoolFile
from actors.logic.messages.entry import Entry
from actors.plan.plan import PipelinePlan
from actors.roles.port import Fetched, Republish


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SpoolFile]:
    file = SpoolFile(tmp_path / "spool.db")
    yield file
    file.close()


@pytest.fixture
def admin(file: SpoolFile) -> SpoolAdmin:
    return SpoolAdmin(file)


@pytest.fixture
def client(file: SpoolFile) -> Iterator[SpoolClient]:
    client = SpoolClient(PipelinePlan("spool", "spool", json.dumps({"path": str(file.path)})))
    client.open()
    yield client
    client.close()


def bury(file: SpoolFile, client: SpoolClient, *errors: str) -> list[str]:
    """Dead letters in the queue "q", one for each error; their ids."""
    ids = file.put("q", [Entry(error.encode()) for error in errors])
    client.consume("q", 1, len(ids))
    assert any(isinstance(event, Fetched) for event in client.turn(time.monotonic()))
    for position, error in enumerate(errors, 1):
        client.republish(
            Republish(position, "q", 1, position, dead=True, error=error, reason="why")
        )
        client.turn(time.monotonic())  # one after the other, so that they die in this order
    client.cancel("q", 1)
    return ids


def test_an_empty_spool_has_no_queues(admin: SpoolAdmin) -> None:
    assert admin.queues() == []


def test_queues_are_counted_by_state(
    file: SpoolFile, client: SpoolClient, admin: SpoolAdmin
) -> None:
    began = time.time()
    bury(file, client, "app.A")
    file.put("q", [Entry(b"ready"), Entry(b"ready"), Entry(b"later", delay=60.0)])
    file.put("other", [Entry(b"held")])
    client.consume("other", 2, 1)
    client.turn(time.monotonic())
    other, q = admin.queues()
    assert q == QueueCount("q", ready=2, delayed=1, claimed=0, dead=1, oldest=q.oldest)
    assert q.oldest is not None
    assert began <= q.oldest <= time.time()
    assert other == QueueCount("other", 0, 0, 1, 0, other.oldest)


def test_messages_are_shown_in_the_order_of_their_hand_out(
    file: SpoolFile, admin: SpoolAdmin
) -> None:
    file.put("q", [Entry(b"later", delay=60.0), Entry(b"low"), Entry(b"high", priority=3)])
    shown = admin.show("q")
    assert [message.body for message in shown] == [b"high", b"low", b"later"]
    assert [message.state for message in shown] == ["ready", "ready", "delayed"]
    assert shown[2].not_before == pytest.approx(time.time() + 60, abs=10)
    assert len(admin.show("q", limit=1)) == 1


def test_purge_leaves_what_is_in_hand_and_the_dead(
    file: SpoolFile, client: SpoolClient, admin: SpoolAdmin
) -> None:
    bury(file, client, "app.A")
    file.put("q", [Entry(b"held")])
    client.consume("q", 2, 1)
    client.turn(time.monotonic())
    file.put("q", [Entry(b"ready"), Entry(b"later", delay=60.0)])
    assert admin.purge("q") == 2
    (count,) = admin.queues()
    assert (count.ready, count.delayed, count.claimed, count.dead) == (0, 0, 1, 1)
    with file.reading() as at:
        assert at.execute("SELECT count(*) FROM content").fetchone() == (2,)


def test_dead_letters_are_chosen_by_id_class_time_and_number(
    file: SpoolFile, client: SpoolClient, admin: SpoolAdmin
) -> None:
    a, b, c = bury(file, client, "app.A", "lib.app.B", "app.AB")

    def chosen(**which: object) -> list[str]:
        return [letter.id for letter in admin.dead("q", DeadFilter(**which))]  # type: ignore[arg-type]

    assert chosen() == [a, b, c]
    assert chosen(ids=[c, a, "unknown"]) == [a, c]
    assert chosen(error="B") == [b]
    assert chosen(error="app.A") == [a]
    assert chosen(before=admin.dead("q")[1].died) == [a]
    assert chosen(limit=2) == [a, b]
    assert admin.dead("other") == []


def test_a_redriven_message_starts_anew(
    file: SpoolFile, client: SpoolClient, admin: SpoolAdmin
) -> None:
    a, b = bury(file, client, "app.A", "app.B")
    assert admin.redrive("q", DeadFilter(error="app.A"), dry_run=True) == [a]
    assert len(admin.dead("q")) == 2
    assert admin.redrive("q", DeadFilter(error="app.A")) == [a]
    (message,) = admin.show("q")
    assert (message.id, message.state, message.attempts, message.reason) == (a, "ready", 0, "")
    assert admin.redrive("q", to="other") == [b]
    assert [message.id for message in admin.show("other")] == [b]
    assert admin.dead("q") == []


def test_dead_letters_are_purged_for_good(
    file: SpoolFile, client: SpoolClient, admin: SpoolAdmin
) -> None:
    a, b = bury(file, client, "app.A", "app.B")
    assert admin.purge_dead("q", DeadFilter(ids=[a]), dry_run=True) == [a]
    assert admin.purge_dead("q", DeadFilter(ids=[a])) == [a]
    assert [letter.id for letter in admin.dead("q")] == [b]
    with file.reading() as at:
        assert at.execute("SELECT id FROM content").fetchall() == [(b,)]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("InvalidMessage", 2),
        ("UndecodableMessageException", 2),
        ("actors.errors.InvalidMessage", 2),
        ("actors.errors.UndecodableMessageException", 2),
        ("Message", 0),
        ("other.InvalidMessage", 0),
    ],
)
def test_invalid_messages_are_found_by_either_name(
    file: SpoolFile, client: SpoolClient, admin: SpoolAdmin, error: str, found: int
) -> None:
    names = ("actors.errors.InvalidMessage", "actors.errors.UndecodableMessageException")
    ids = bury(file, client, *names, "app.InvalidOrder")
    assert [letter.id for letter in admin.dead("q", DeadFilter(error=error))] == ids[:found]
