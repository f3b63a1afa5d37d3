"""The checkpoint moves over the contiguous settled prefix, and its file is whole and locked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.connectors.sse.checkpoint import CheckpointFile
from actors.errors import ConfigurationError
from actors.logic.consuming.event_buffer import LONGEST_ID, Checkpoint, gap, resumable


def test_a_gap_holds_the_checkpoint_back_until_it_is_settled() -> None:
    checkpoint = Checkpoint("0")
    a, b, c, d, e = (checkpoint.receive(id) for id in "abcde")
    for number in (a, b, d):
        checkpoint.settle(number)
    assert checkpoint.id == "b"
    checkpoint.settle(c)
    assert checkpoint.id == "d"
    checkpoint.settle(e)
    assert (checkpoint.id, len(checkpoint)) == ("e", 0)


def test_settling_twice_means_nothing() -> None:
    checkpoint = Checkpoint()
    a, b = checkpoint.receive("a"), checkpoint.receive("b")
    for number in (a, a, a):
        checkpoint.settle(number)
    assert checkpoint.id == "a"
    checkpoint.settle(b)
    checkpoint.settle(a)
    assert checkpoint.id == "b"


@given(st.permutations(range(12)))
def test_in_any_order_no_open_event_is_ever_passed(order: list[int]) -> None:
    checkpoint = Checkpoint("-1")
    numbers = [checkpoint.receive(str(n)) for n in range(12)]
    settled: set[int] = set()
    for n in order:
        checkpoint.settle(numbers[n])
        settled.add(n)
        prefix = next(n for n in range(13) if n not in settled)
        assert checkpoint.id == str(prefix - 1)


@pytest.mark.parametrize("id", ["", "1", "a b", "a\tb", "…", "x" * LONGEST_ID])
def test_an_id_that_fits_into_a_header_can_be_asked_for(id: str) -> None:
    assert resumable(id)


@pytest.mark.parametrize("id", [" 1", "1 ", "a\x01b", "a\x7f", "\t", "x" * (LONGEST_ID + 1)])
def test_an_id_that_does_not_fit_into_a_header_is_not_asked_for(id: str) -> None:
    assert not resumable(id)


@pytest.mark.parametrize(
    ("asked", "first", "oddity"),
    [
        ("41", "42", ""),
        ("41", "57", "asked for what follows id 41, it went on at 57"),
        ("41", "1", "asked for what follows id 41, it began again at 1"),
        ("41", "41", "asked for what follows id 41, it began again at 41"),
        ("x", "57", ""),
        ("41", "x", ""),
        ("9" * 5000, "1", ""),
    ],
)
def test_numbers_tell_whether_a_stream_went_on_where_it_was_asked_to(
    asked: str, first: str, oddity: str
) -> None:
    assert gap(asked, first) == oddity


# ── the file ───────────────────────────────────────────────────────────────────


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sse.checkpoint"


def test_what_was_written_is_read_by_the_next_owner(path: Path) -> None:
    first = CheckpointFile(path)
    first.write({"http://x/a": "1"})
    first.write({"http://x/b": '"\n\u2028…'})
    first.close()
    second = CheckpointFile(path)
    assert second.get("http://x/a") == "1"
    assert second.get("http://x/b") == '"\n\u2028…'
    assert second.get("http://x/c") is None
    second.close()
    assert path.read_text().count("\n") == 2


def test_only_the_owner_can_read_the_file(path: Path) -> None:
    CheckpointFile(path).close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


HOLD = """
import sys, pathlib
from actors.connectors.sse.checkpoint import CheckpointFile
file = CheckpointFile(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_has_one_owner_and_is_free_when_that_one_is_killed(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[4],
    ) as owner:  # fmt: skip
        assert owner.stdout
        assert owner.stdout.readline() == b"held\n"
        with pytest.raises(ConfigurationError, match="another process holds it"):
            CheckpointFile(path)
        owner.kill()
        owner.wait()
    CheckpointFile(path).close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "sse.checkpoint"
    with pytest.raises(ConfigurationError, match=f"checkpoint {path}: "):
        CheckpointFile(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        CheckpointFile(tmp_path / "sse.checkpoint")


@pytest.mark.parametrize("text", ["x\n", "[]\n", '{"id": "1"}\n', '{"stream": "a", "id'])
def test_a_file_of_something_else_is_not_overwritten(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="not a file of checkpoints"):
        CheckpointFile(path)
    assert path.read_text() == text


def test_a_symbolic_link_in_the_place_of_what_it_writes_is_replaced(
    path: Path, tmp_path: Path
) -> None:
    path.parent.mkdir()
    path.with_name(path.name + ".tmp").symlink_to(tmp_path / "elsewhere")
    CheckpointFile(path).close()
    assert path.is_file()
    assert not (tmp_path / "elsewhere").exists()
