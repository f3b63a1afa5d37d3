"""The publisher on the embedded spool."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.file import SpoolFile
from actors.errors import ConfigurationError, PublishError
from actors.publisher import Publisher


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def publisher(path: Path) -> Iterator[Publisher]:
    with Publisher(f"spool://{path}") as publisher:
        yield publisher


def stored(path: Path, queue: str = "q") -> list[Any]:
    return SpoolAdmin(SpoolFile(path)).show(queue, limit=1000)


def test_put_returns_the_id_of_the_stored_message(publisher: Publisher, path: Path) -> None:
    id = publisher.put("q", {"word": "a"}, headers={"kind": "x"}, priority=2)
    (message,) = stored(path)
    assert (message.id, message.body) == (id, b'{"word": "a"}')
    assert (message.headers, message.priority) == ({"kind": "x"}, 2)
    assert publisher.put("q", 1, message_id="mine") == "mine"


@pytest.mark.parametrize(
    ("data", "body"), [({}, b"{}"), (0, b"0"), ([], b"[]"), ("", b'""'), (False, b"false")]
)
def test_empty_data_is_data(publisher: Publisher, path: Path, data: Any, body: bytes) -> None:
    publisher.put("q", data)
    assert [message.body for message in stored(path)] == [body]


def test_serialized_data_travels_as_it_is(publisher: Publisher, path: Path) -> None:
    publisher.put("q", serialized_data=b"\xff\x00")
    publisher.put("q", serialized_data=b"")
    assert [message.body for message in stored(path)] == [b"\xff\x00", b""]


def test_what_cannot_be_a_message_is_refused_and_not_stored(
    publisher: Publisher, path: Path
) -> None:
    """B40"""
    with pytest.raises(ValueError, match="not both"):
        publisher.put("q", 1, serialized_data=b"1")
    with pytest.raises(ValueError, match="needs data"):
        publisher.put("q")
    with pytest.raises(TypeError, match="serializable"):
        publisher.put("q", object())
    with pytest.raises(TypeError, match="must be bytes"):
        publisher.put("q", serialized_data="text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be bytes"):
        publisher.put_many("q", [b"good", "text"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="queue"):
        publisher.put("", 1)
    with pytest.raises(ValueError, match="priority"):
        publisher.put("q", 1, priority=256)
    assert stored(path) == []


def test_a_delayed_message_is_not_ready(publisher: Publisher, path: Path) -> None:
    publisher.put("q", 1, delay=60.0)
    assert [message.state for message in stored(path)] == ["delayed"]


def test_many_are_put_in_order(publisher: Publisher, path: Path) -> None:
    ids = publisher.put_many("q", (str(number).encode() for number in range(300)))
    assert [message.id for message in stored(path)] == ids
    assert stored(path)[299].body == b"299"
    assert publisher.put_many("q", []) == []


def test_aput_leaves_the_loop_free(publisher: Publisher, path: Path) -> None:
    async def several() -> list[str]:
        return await asyncio.gather(*(publisher.aput("q", n, priority=1) for n in range(20)))

    ids = asyncio.run(several())
    assert {message.id for message in stored(path)} == set(ids)


def test_a_spool_that_stays_locked_is_a_publish_error(publisher: Publisher, path: Path) -> None:
    publisher.put("q", 1)
    with SpoolFile(path).transaction(), pytest.raises(PublishError, match=f"spool {path}: locked"):
        publisher.put("q", 2, timeout=0.05)


def test_a_path_that_is_no_good_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="connection spool://"):
        Publisher(f"spool://{tmp_path}").put("q", 1)


def test_a_connection_that_takes_no_messages_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes no messages"):
        Publisher("sse+http://127.0.0.1:1/")
    with pytest.raises(ConfigurationError, match="no URL"):
        Publisher("redis://127.0.0.1")


def test_the_spool_in_the_state_directory_has_the_shortest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLBOARD_STATE_DIR", str(tmp_path / "state"))
    with Publisher("spool:") as publisher:
        publisher.put("q", 1)
    assert len(stored(tmp_path / "state" / "spool.db")) == 1


def test_after_close_a_put_opens_it_again(publisher: Publisher, path: Path) -> None:
    publisher.put("q", 1)
    publisher.close()
    publisher.put("q", 2)
    assert len(stored(path)) == 2


def test_threads_and_forked_children_share_a_publisher(publisher: Publisher, path: Path) -> None:
    publisher.put("q", "first")
    stop = threading.Event()
    count = [0]

    def keep_putting() -> None:
        while not stop.is_set():
            publisher.put("q", "thread")
            count[0] += 1

    thread = threading.Thread(target=keep_putting)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    publisher.put("q", "child")
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
    assert len(SpoolAdmin(SpoolFile(path)).show("q", limit=100_000)) == 1 + 5 + count[0]


def test_a_spool_needs_neither_thespian_nor_pika(tmp_path: Path) -> None:
    program = (
        "import sys; from actors.publisher import Publisher\n"
        f"Publisher('spool://{tmp_path}/spool.db').put('q', 1)\n"
        "print(sorted({'thespian', 'pika', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"
