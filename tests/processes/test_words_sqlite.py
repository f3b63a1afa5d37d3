"""The words job on its embedded index, a real SQLite file."""

from __future__ import annotations

import subprocess
import sys
from array import array
from itertools import accumulate
from pathlib import Path

import pytest

from actors.logic.bulks.bulk import Piece
from actors.logic.messages.records import pack
from actors.logic.settlement.failure import Outcome
from actors.plan.plan import RoutePlan
from actors.roles.port import Ended, Started
from actors.roles.protocol import Bulk, Settlement
from actors.usercode.runner import InlineUserCode
from handlers.index import Entry, SQLiteIndex
from handlers.words import app, search, words

DEADLINE = 60.0  #: seconds

WRITER = """
import sys
from pathlib import Path
from handlers.index import Entry, SQLiteIndex
index = SQLiteIndex(Path(sys.argv[1]))
first = int(sys.argv[2]) * 500
for start in range(first, first + 1000, 100):
    index.add([Entry(i, f"word{i}x") for i in range(start, start + 100)])
index.close()
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ELASTICSEARCH_URL", raising=False)
    monkeypatch.setenv("WORDS_INDEX", str(tmp_path / "new" / "words.db"))
    return tmp_path / "new" / "words.db"


def handle(*bodies: bytes) -> Settlement:
    raws = [pack("id", "words_to_index", b"", 0, 1.0, 0, body) for body in bodies]
    ends = array("I", accumulate(map(len, raws))).tobytes()
    piece = Piece("words_to_index", 1, 1, b"".join(raws), ends, 0)
    (name,) = app.routes
    code = InlineUserCode(app, [RoutePlan(name, (name,))], "spool", lambda: 0.0)
    code.start()
    assert code.turn(0.0) == [Started()]
    code.submit(Bulk(1, 1, name, (piece,), (len(bodies),)))
    (done,) = code.turn(0.0)
    code.stop()
    assert code.turn(0.0) == [Ended()]
    code.close()
    assert isinstance(done, Settlement)
    return done


def count(path: Path) -> int:
    index = SQLiteIndex(path)
    (number,) = index._database.execute("SELECT count(*) FROM words").fetchone()
    index.close()
    assert isinstance(number, int)
    return number


def test_words_are_found_once_they_are_indexed(path: Path) -> None:
    done = handle(b'{"id": 1, "word": "bafodi"}', b'"gulemo"', b'{"id": 3, "word": "two parts"}')
    assert [entry.outcome for entry in done.ranges] == [Outcome.ACK]
    assert search("bafodi") == ["bafodi"]
    assert search("GULEMO") == ["gulemo"]
    assert search("parts") == ["two parts"]
    assert search("nothing") == []
    assert path.exists()


def test_what_is_delivered_again_replaces_itself(path: Path) -> None:
    for _ in range(3):
        handle(b'{"id": 1, "word": "bafodi"}', b'"gulemo"', b'"gulemo"')
    assert count(path) == 2
    handle(b'{"id": 1, "word": "changed"}')
    assert count(path) == 2
    assert search("bafodi") == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"7",
        b"null",
        b'{"id": 1}',
        b'{"id": -1, "word": "a"}',
        b'{"id": 9223372036854775808, "word": "a"}',
        b'{"id": 1, "word": ""}',
        b'{"id": 1, "word": "\\ud800"}',
        b'"\\ud800"',
    ],
)
def test_what_is_no_word_is_dead_lettered_and_its_neighbours_are_indexed(
    path: Path, body: bytes
) -> None:
    done = handle(b'"bafodi"', body, b'"gulemo"')
    assert [(s.position, s.outcome) for s in done.singles] == [(2, Outcome.DEAD_LETTER)]
    assert (search("bafodi"), search("gulemo")) == (["bafodi"], ["gulemo"])


@pytest.mark.parametrize("query", ['"', "a OR b", "word:", "*", "NEAR(", "\0", "'; DROP"])
def test_a_search_is_for_words_whatever_they_contain(path: Path, query: str) -> None:
    handle(b'"bafodi"')
    assert search(query) == []


def test_several_processes_write_to_one_file(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)])
        for number in range(4)
    ]
    assert [writer.wait(DEADLINE) for writer in writers] == [0] * 4
    assert count(path) == 2500
    assert search("word2499x") == ["word2499x"]


def test_a_bulk_is_indexed_whole_or_not_at_all(path: Path) -> None:
    index = SQLiteIndex(path)
    with pytest.raises(UnicodeEncodeError):
        index.add([Entry(1, "bafodi"), Entry(2, "\ud800")])
    assert index.search("bafodi", 1) == []
    assert index.add([Entry(1, "bafodi")]) == {}
    index.close()


def test_words_are_distinct_pronounceable_and_the_same_each_time() -> None:
    made = list(words(400_000))
    assert len(set(made)) == 400_000
    assert made[:100] == list(words(100))
    assert all(word.isalpha() and word.isascii() and word.islower() for word in made)
    assert {len(word) for word in made[:10_000]} == {6}
