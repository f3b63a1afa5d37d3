"""The file itself: where it may lie, what it refuses, how it is shared."""

import ctypes
import fcntl
import gc
import multiprocessing
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from actors.connectors.spool.file import SpoolBusy, SpoolError, SpoolFile
from actors.connectors.spool.place import file_system
from actors.errors import ConfigurationError
from actors.logic.messages.entry import Entry

MOUNTS = """\
22 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /srv rw - tmpfs tmpfs rw
31 30 0:27 / /srv/with\\040space rw shared:9 master:2 - {kind} server:/export rw
"""


def count(file: SpoolFile) -> int:
    with file.reading() as at:
        (number,) = at.execute("SELECT count(*) FROM message").fetchone()
    return int(number)


def test_the_file_and_its_directory_are_made_for_this_user_alone(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "new" / "er" / "spool.db")
    assert len(file.put("q", [Entry(b"a"), Entry(b"b")])) == 2
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(f"{file.path}-wal").stat().st_mode) == 0o600
    file.close()


def test_a_put_is_written_through_to_the_disk(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    with file.reading() as at:
        assert at.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert at.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    file.close()


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "afs"])
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS.format(kind=kind))
    path = Path("/srv/with space/callboard/spool.db")
    with pytest.raises(ConfigurationError, match=rf"connection spool://{path}.*\({kind}\)"):
        SpoolFile(path, mountinfo=mountinfo).put("q", [Entry(b"")])


def test_the_nearest_mount_decides(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS.format(kind="nfs4"))
    assert file_system(Path("/srv/with space/a"), mountinfo) == "nfs4"
    assert file_system(Path("/srv/with"), mountinfo) == "tmpfs"
    assert file_system(Path("/home/me"), mountinfo) == "ext4"
    assert file_system(Path("/home/me"), tmp_path / "missing") == ""


def test_a_later_mount_covers_an_earlier_one(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("1 0 0:1 / /a rw - nfs s:/ rw\n2 0 0:2 / /a rw - xfs /dev/x rw\n")
    assert file_system(Path("/a/b"), mountinfo) == "xfs"


@pytest.mark.parametrize("place", ["/proc/spool.db", "/dev/null/spool.db", "/sys/new/spool.db"])
def test_a_path_that_cannot_be_written_is_named(place: str) -> None:
    with pytest.raises(ConfigurationError, match=f"connection spool://{place}"):
        SpoolFile(Path(place)).put("q", [Entry(b"")])


@pytest.mark.parametrize("place", [".", "link", "/", "/.."])
def test_a_directory_is_no_spool(tmp_path: Path, place: str) -> None:
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(ConfigurationError, match="is a directory; name a file in it"):
        SpoolFile(tmp_path / place).put("q", [Entry(b"")])


def test_a_device_or_a_pipe_is_no_spool(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ConfigurationError, match=r"is a (device|FIFO), not a file"):
            SpoolFile(path).put("words", [Entry(b"")])


def test_a_file_that_is_no_spool_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 1000)
    with pytest.raises(ConfigurationError, match=f"{path}: is no spool, or damaged"):
        SpoolFile(path).put("q", [Entry(b"")])
    assert path.read_text().startswith("Dear reader")


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE message (text)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="database of something else"):
        SpoolFile(path).put("q", [Entry(b"")])
    assert path.read_bytes() == before


def test_a_spool_of_a_later_version_is_refused(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    with file.transaction() as at:
        at.execute("PRAGMA user_version = 3")
    file.close()
    with pytest.raises(ConfigurationError, match="spool of version 3"):
        file.put("q", [Entry(b"")])


def test_a_damaged_spool_says_so(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    file.put("q", [Entry(b"x" * 1000)] * 200)
    file.close()
    with file.path.open("r+b") as raw:
        raw.seek(4096)
        raw.write(os.urandom(30 * 4096))
    with pytest.raises((ConfigurationError, SpoolError), match=str(file.path)):
        file.put("q", [Entry(b"")])
    file.close()


def test_waiting_for_the_lock_is_bounded(tmp_path: Path) -> None:
    file, other = SpoolFile(tmp_path / "spool.db"), SpoolFile(tmp_path / "spool.db")
    other.put("q", [Entry(b"")])
    with file.transaction(), pytest.raises(SpoolBusy, match="locked"):
        other.put("q", [Entry(b"")], timeout=0.05)
    assert count(other) == 1
    file.close()
    other.close()


def test_all_or_none_of_a_put_is_stored(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    with pytest.raises(TypeError):
        file.put("q", [Entry(b"good"), Entry(b"bad", headers={"a": object()})])
    assert count(file) == 0
    file.close()


def test_a_file_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    file.put("q", [Entry(b"a")])
    for name in ("spool.db", "spool.db-wal", "spool.db-shm"):
        (tmp_path / name).unlink()
    file.put("q", [Entry(b"b")])
    with SpoolFile(tmp_path / "spool.db").reading() as at:
        assert at.execute("SELECT body FROM content").fetchall() == [(b"b",)]
    file.close()


def test_threads_share_one_file(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    threads = [
        threading.Thread(target=lambda: [file.put("q", [Entry(b"x")]) for _ in range(25)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(file) == 200
    file.close()


def _put_some(path: str, number: int) -> None:
    file = SpoolFile(Path(path))
    for index in range(number):
        file.put("q", [Entry(str(index).encode())], timeout=20.0)


def test_processes_meet_on_a_file_that_does_not_exist_yet(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_put_some, args=(str(path), 20)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert count(SpoolFile(path)) == 80


def test_parent_and_forked_child_both_go_on_with_an_open_file(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    file.put("q", [Entry(b"before")])
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for _ in range(20):
                    file.put("q", [Entry(b"child")], timeout=20.0)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    for _ in range(20):
        file.put("q", [Entry(b"parent")], timeout=20.0)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert count(file) == 1 + 3 * 20 + 20
    with file.reading() as at:
        assert at.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    file.close()


def test_a_fork_that_python_does_not_know_of_is_refused_in_the_child(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    file.put("q", [Entry(b"before")])
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        code = 1
        try:
            file.put("q", [Entry(b"child")])
        except SpoolError as error:
            code = 0 if "forked from C" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    file.put("q", [Entry(b"parent")])
    assert count(file) == 2
    file.close()


def test_a_body_of_any_size_comes_back_whole(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    bodies = [b"", b"\0", os.urandom(20 * 1024 * 1024)]
    file.put("q", [Entry(body) for body in bodies])
    with file.reading() as at:
        rows = at.execute("SELECT body FROM content ORDER BY seq").fetchall()
    assert [body for (body,) in rows] == bodies
    file.close()


def writes_in_turn(path: Path, first: str) -> list[bytes]:
    """Two wait for SQLite's lock, `first` before the other; in which order they get it."""
    holder, waiting, late = (SpoolFile(path) for _ in range(3))
    for file in (holder, waiting, late):
        file.put("q", [Entry(b"before")])

    def put(file: SpoolFile, body: bytes) -> threading.Thread:
        thread = threading.Thread(target=lambda: file.put("q", [Entry(body)], 20.0))
        thread.start()
        return thread

    with holder.transaction():
        threads = [put(waiting, first.encode())]
        while lock_is_free(path):
            assert threads[0].is_alive()
        threads.append(put(late, b"late"))
    for thread in threads:
        thread.join(20.0)
    with holder.reading() as at:
        rows = at.execute("SELECT body FROM content WHERE body != 'before' ORDER BY seq").fetchall()
    for file in (holder, waiting, late):
        file.close()
    return [body for (body,) in rows if body != b"before"]


def lock_is_free(path: Path) -> bool:
    directory = os.open(f"{path}.owners", os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(directory)
    return True


def test_who_waits_for_the_lock_gets_it_before_who_comes_later(tmp_path: Path) -> None:
    assert writes_in_turn(tmp_path / "spool.db", "first") == [b"first", b"late"]


def test_one_that_was_stopped_while_it_waited_stops_nobody(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    file.put("q", [Entry(b"a")])
    stopped = os.open(f"{file.path}.owners", os.O_RDONLY)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    file.put("q", [Entry(b"b")])
    with file.transaction(0.1):
        pass
    os.close(stopped)
    assert count(file) == 2
    file.close()


def test_nobody_who_puts_in_a_loop_keeps_others_waiting(tmp_path: Path) -> None:
    """Threads of one file and processes alike: each comes to its turn within its patience."""
    path = tmp_path / "spool.db"
    SpoolFile(path).put("q", [Entry(b"")])
    workers = [multiprocessing.Process(target=put_for_a_while, args=(path, n)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60.0)
    assert [worker.exitcode for worker in workers] == [0] * 6


def put_for_a_while(path: Path, number: int) -> None:
    file = SpoolFile(path)
    done: list[int] = []

    def puts() -> None:
        for index in range(60):
            file.put("q", [Entry(b"%d" % number)], 10.0)
            done.append(index)

    threads = [threading.Thread(target=puts) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raise SystemExit(0 if len(done) == 120 else 1)


def test_who_drops_a_file_without_closing_it_leaves_no_descriptor(tmp_path: Path) -> None:
    gc.collect()  # of other tests
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        file = SpoolFile(tmp_path / "s.db")
        file.put("words", [Entry(b"1")])
        del file
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == len(before)
