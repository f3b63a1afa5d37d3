"""Whatever lies where a file of Callboard's is to be: it is used, or refused by its name."""

import json
import os
import shutil
import socket
import sqlite3
import stat
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.connectors.spool import schema
from actors.connectors.spool.connection import SpoolClient
from actors.connectors.spool.file import SpoolFile
from actors.connectors.spool.lock import FileLock
from actors.connectors.sse.checkpoint import CheckpointFile
from actors.errors import ConfigurationError, Fault
from actors.logic.messages.entry import Entry
from actors.plan.plan import PipelinePlan
from actors.publisher import Publisher
from actors.roles.port import Fetched, Lost

STRANGER = 65534
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")


def client_at(path: Path) -> SpoolClient:
    client = SpoolClient(PipelinePlan("spool", "spool", json.dumps({"path": str(path)})))
    client.open()
    return client


def refusals(path: Path) -> list[str]:
    """What a worker and a publisher say."""
    client = client_at(path)
    lost = [event for event in client.turn(time.monotonic()) if isinstance(event, Lost)]
    client.close()
    assert [event.fault for event in lost] == [Fault.REFUSED]
    with Publisher(f"spool://{path}") as publisher, pytest.raises(ConfigurationError) as raised:
        publisher.put("q", 1)
    return [lost[0].cause, str(raised.value)]


def as_directory(place: Path) -> None:
    place.mkdir()


def as_file(place: Path) -> None:
    place.touch(0o600)


def as_socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(place))


def as_fifo(place: Path) -> None:
    os.mkfifo(place)


def as_dangling_link(place: Path) -> None:
    place.symlink_to("nowhere")


def as_second_name(place: Path) -> None:
    victim = place.with_name("victim")
    victim.write_text("precious")
    victim.chmod(0o600)
    os.link(victim, place)


def as_link(place: Path) -> None:
    victim = place.with_name("victim")
    victim.write_text("precious")
    place.symlink_to(victim)


def as_open_file(place: Path) -> None:
    place.touch()
    place.chmod(0o666)


def as_open_directory(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def as_a_strangers_file(place: Path) -> None:
    place.touch(0o600)
    os.chown(place, STRANGER, STRANGER)


def as_a_strangers_directory(place: Path) -> None:
    place.mkdir(0o700)
    os.chown(place, STRANGER, STRANGER)


NO_FILE = [as_directory, as_socket, as_fifo, as_second_name, as_open_file]
NO_DIRECTORY = [as_file, as_socket, as_fifo, as_link, as_dangling_link, as_open_directory]
LINKS = [as_link, as_dangling_link]
BESIDE = ["-wal", "-shm", "-journal"]


@pytest.mark.parametrize(
    ("end", "lie"),
    [
        *(("", lie) for lie in NO_FILE),
        *((end, lie) for end in BESIDE for lie in [*NO_FILE, *LINKS]),
        *((".owners", lie) for lie in NO_DIRECTORY),
        *((end, as_a_strangers_file) for end in ["", *BESIDE]),
        (".owners", as_a_strangers_directory),
    ],
)
def test_what_is_not_ours_alone_is_refused_in_one_line_that_names_it(
    tmp_path: Path, end: str, lie: Callable[[Path], None]
) -> None:
    if lie in (as_a_strangers_file, as_a_strangers_directory) and os.geteuid() != 0:
        pytest.skip("only root makes files of others")
    path = tmp_path / "spool.db"
    place = tmp_path / f"spool.db{end}"
    lie(place)
    for said in refusals(path):
        assert str(place) in said
        assert "\n" not in said
    victim = tmp_path / "victim"
    assert not victim.exists() or victim.read_text() == "precious"


@root_only
@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_nothing_is_written_through_a_name_among_the_owners(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    """Also where the directory was trusted when the file was opened."""
    path = tmp_path / "spool.db"
    victim = tmp_path / "victim"
    victim.write_text("0123456789")
    file = SpoolFile(path)
    client = client_at(path)
    link(victim, tmp_path / "spool.db.owners" / "0123456789abcdef")
    file.put("q", [Entry(b"a")])
    os.chown(tmp_path / "spool.db.owners", STRANGER, STRANGER)
    file.put("q", [Entry(b"b")])
    assert victim.read_text() == "0123456789"
    file.close()
    client.close()


@pytest.mark.parametrize("name", ["lost+found", ".nfs0001", "0123456789abcdef"])
@pytest.mark.parametrize("lie", [as_directory, as_file, as_socket, as_link, as_dangling_link])
def test_what_lies_among_the_owners_and_is_none_is_left_alone(
    tmp_path: Path, name: str, lie: Callable[[Path], None]
) -> None:
    owners = tmp_path / "spool.db.owners"
    owners.mkdir(0o700)
    lie(owners / name)
    client = client_at(tmp_path / "spool.db")
    SpoolFile(tmp_path / "spool.db").put("q", [Entry(b"a")])
    client.consume("q", 1, 10)
    events: list[object] = []
    end = time.monotonic() + 10
    while not any(isinstance(event, Fetched) for event in events):
        assert time.monotonic() < end, events
        events += client.turn(time.monotonic())
    client.close()
    assert os.path.lexists(owners / name)


def test_a_directory_where_everybody_may_replace_what_is_there_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for said in refusals(open_to_all / "spool.db"):
        assert str(open_to_all) in said
    # … but for one in which only owners may, and a directory of one's own below.
    open_to_all.chmod(0o1777)
    SpoolFile(open_to_all / "spool.db").put("q", [Entry(b"")])
    open_to_all.chmod(0o777)
    SpoolFile(open_to_all / "mine" / "spool.db").put("q", [Entry(b"")])
    assert stat.S_IMODE((open_to_all / "mine").stat().st_mode) == 0o700


@root_only
def test_another_user_uses_what_root_made_only_where_he_may(tmp_path: Path) -> None:
    """A real user in a process of his own."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o700)
    os.chown(theirs, STRANGER, STRANGER)
    child = os.fork()
    if not child:  # pragma: no cover
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            SpoolFile(theirs / "spool.db").put("q", [Entry(b"a")])
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for said in refusals(theirs / "spool.db"):
        assert "belongs to user " in said
        assert "run as user " in said


@pytest.mark.parametrize("lie", [as_second_name, as_link, as_open_file, as_directory])
@pytest.mark.parametrize("end", ["", ".lock"])
def test_a_checkpoint_is_kept_in_files_of_ours_alone(
    tmp_path: Path, end: str, lie: Callable[[Path], None]
) -> None:
    lie(tmp_path / f"app.checkpoint{end}")
    with pytest.raises(ConfigurationError, match="checkpoint"):
        CheckpointFile(tmp_path / "app.checkpoint")
    victim = tmp_path / "victim"
    assert not victim.exists() or victim.read_text() == "precious"


@pytest.mark.parametrize("lie", [as_second_name, as_link, as_dangling_link])
def test_a_new_checkpoint_is_written_through_no_other_name(
    tmp_path: Path, lie: Callable[[Path], None]
) -> None:
    file = CheckpointFile(tmp_path / "app.checkpoint")
    lie(tmp_path / "app.checkpoint.tmp")
    file.write({"stream": "7"})
    assert file.get("stream") == "7"
    file.close()
    assert not (tmp_path / "nowhere").exists()
    victim = tmp_path / "victim"
    assert not victim.exists() or victim.read_text() == "precious"


@pytest.mark.parametrize("lie", [as_second_name, as_link, as_dangling_link, as_directory])
def test_the_lock_of_a_timer_is_a_file_of_ours_alone(
    tmp_path: Path, lie: Callable[[Path], None]
) -> None:
    lie(tmp_path / "spool.db.timer")
    with pytest.raises(ConfigurationError, match="singleton"):
        FileLock(tmp_path / "spool.db", "timer")
    assert not (tmp_path / "nowhere").exists()


def test_a_backup_that_is_moved_over_the_spool_of_an_idle_worker_is_worked_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "spool.db"
    client = client_at(path)
    client.consume("q", 1, 100)
    fetched: list[Fetched] = []

    def turn_until(done: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not done():
            assert time.monotonic() < end
            fetched.extend(e for e in client.turn(time.monotonic()) if isinstance(e, Fetched))

    turn_until(lambda: not client._changed)
    for number in range(1, 4):  # each time the new connection counts as the last one did
        backup = tmp_path / f"backup{number}.db"
        file = SpoolFile(backup)
        file.put("q", [Entry(b"%d" % number)])
        file.close()
        with sqlite3.connect(backup) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        shutil.move(backup, path)
        turn_until(lambda: len(fetched) == number)  # noqa: B023
    client.close()


@pytest.mark.parametrize("question", range(4))
def test_a_spool_that_another_process_makes_meanwhile_is_a_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, question: int
) -> None:
    path = tmp_path / "spool.db"
    asked = 0

    class Meeting(sqlite3.Connection):
        """Another process makes the spool before one of the first questions is asked."""

        def execute(self, sql: str, /, *values: Any) -> sqlite3.Cursor:
            nonlocal asked
            asked += 1
            if asked == question + 1:
                monkeypatch.setattr(sqlite3, "connect", connect)
                schema.connect(path, durable=True, timeout=1.0).close()
            return super().execute(sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", partial(connect, factory=Meeting))
    schema.connect(path, durable=True, timeout=5.0).close()
    assert asked > question
