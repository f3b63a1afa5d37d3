"""The file of what is in hand: what a worker that was killed leaves to the next."""

from __future__ import annotations

import subprocess
import sys
from array import array
from itertools import accumulate
from pathlib import Path

import pytest

from actors.connectors import journal
from actors.connectors.journal import SLOT_COUNT, SLOT_SIZE, BulkJournal
from actors.logic.bulks.bulk import Piece
from actors.logic.bulks.deaths import Deaths, identity, inherited
from actors.plan.plan import PipelinePlan
from tests.support.deliveries import delivery


def plan(directory: Path) -> PipelinePlan:
    return PipelinePlan("rabbitmq", "amqp", "{}", app="module:app", state_dir=str(directory))


def piece(*deliveries: bytes, base: int = 0) -> Piece:
    ends = array("I", (base + end for end in accumulate(map(len, deliveries))))
    return Piece("q", 1, 1, b"".join(deliveries), ends.tobytes(), base)


def next_life(monkeypatch: pytest.MonkeyPatch, life: str) -> None:
    monkeypatch.setattr(journal, "_life", lambda: life)


@pytest.mark.parametrize("size", [1, SLOT_SIZE])
def test_what_a_killed_worker_held_is_known_to_the_next_however_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    one, two, three, four = (delivery(b"%d" % n * size, n) for n in range(1, 5))
    first = BulkJournal(plan(tmp_path))
    assert first.suspects == set()
    first.record([1, 2], (piece(one, two, base=7),))
    first.record([3], (piece(three),))
    first.record([4], (piece(four),))
    first.release([1])
    first.release([2, 4])
    first.close()
    next_life(monkeypatch, "second")
    second = BulkJournal(plan(tmp_path))
    assert second.suspects == {identity(three)}
    assert second.deaths == {identity(three): Deaths(1, 1)}
    second.close()
    next_life(monkeypatch, "third")
    third = BulkJournal(plan(tmp_path))
    assert third.suspects == set(), "the second held nothing"
    assert third.deaths == {identity(three): Deaths(1, 1)}
    third.forget(identity(three))
    third.close()
    assert BulkJournal(plan(tmp_path)).deaths == {}


def test_a_batcher_that_is_replaced_in_a_living_worker_blames_nobody(tmp_path: Path) -> None:
    first = BulkJournal(plan(tmp_path))
    first.record([1], (piece(delivery(b"x")),))
    first.close()
    second = BulkJournal(plan(tmp_path))
    assert (second.suspects, second.deaths) == (set(), {})


def test_two_workers_of_one_app_have_a_file_each(tmp_path: Path) -> None:
    one, two = BulkJournal(plan(tmp_path)), BulkJournal(plan(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    one.close()
    two.close()


def test_a_file_that_is_no_such_file_is_begun_anew(tmp_path: Path) -> None:
    BulkJournal(plan(tmp_path)).close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"\xff" * 200_000)
    assert BulkJournal(plan(tmp_path)).deaths == {}


def test_without_a_directory_to_write_to_work_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    idle = BulkJournal(plan(tmp_path / "file" / "state"))
    idle.record([1], (piece(delivery(b"x")),))
    idle.release([1])
    assert "a message that kills whole workers cannot be found" in caplog.text


def test_more_than_there_are_slots_is_given_all_the_same(tmp_path: Path) -> None:
    full = BulkJournal(plan(tmp_path))
    for number in range(SLOT_COUNT + 10):
        full.record([number], (piece(delivery(b"x")),))
    full.release(range(SLOT_COUNT + 10))
    full.record([SLOT_COUNT + 11], (piece(delivery(b"x")),))
    assert len(full._free) == SLOT_COUNT - 1


def test_one_that_takes_long_does_not_keep_others_from_being_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = BulkJournal(plan(tmp_path))
    slow, quick, last = (delivery(body) for body in (b"slow", b"quick", b"last"))
    first.record([0], (piece(slow),))
    first.record([0], (piece(slow),))  # it got lost on its way, and went out again
    for number in range(1, SLOT_COUNT + 10):
        first.record([number], (piece(quick),))
        first.release([number])
    first.record([SLOT_COUNT + 10], (piece(last),))
    first.close()
    next_life(monkeypatch, "next")
    assert BulkJournal(plan(tmp_path)).suspects == {identity(slow), identity(last)}


def test_what_was_written_outlives_a_process_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "import os, signal, sys; from pathlib import Path;"
        "from tests.processes.test_journal import *;"
        "held = BulkJournal(plan(Path(sys.argv[1])));"
        "held.record([1], (piece(delivery(b'x')),));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", source, str(tmp_path)], cwd=root, timeout=30)
    assert done.returncode == -9
    next_life(monkeypatch, "next")
    assert BulkJournal(plan(tmp_path)).deaths == {identity(delivery(b"x", 2)): Deaths(1, 1)}


def test_a_message_is_the_same_however_often_it_is_delivered() -> None:
    first = delivery(b"x", 1, {"a": "b"})
    assert identity(first) == identity(delivery(b"x", 9, {"a": "b", "x-delivery-count": 3}))
    assert identity(first) != identity(delivery(b"y", 1, {"a": "b"}))
    assert identity(first) != identity(delivery(b"x", 1, {"a": "c"}))


@pytest.mark.parametrize(
    ("deaths", "most", "convicted"),
    [
        (Deaths(3, 2), 3, True),  # the first in company
        (Deaths(3, 3), 3, True),
        (Deaths(3, 1), 3, False),
        (Deaths(2, 2), 3, False),
        (Deaths(1, 0), 1, False),
        (Deaths(1, 1), 1, True),
    ],
)
def test_only_deaths_alone_convict_but_for_the_first(
    deaths: Deaths, most: int, convicted: bool
) -> None:
    assert deaths.convicts(most) is convicted


def test_a_death_counts_for_all_that_was_held_and_alone_only_for_one() -> None:
    known = {b"old": Deaths(2, 1)}
    assert inherited([], known) == (known, set())
    assert inherited([b"old"], known) == ({b"old": Deaths(3, 2)}, {b"old"})
    deaths, held = inherited([b"old", b"new"], known)
    assert deaths == {b"old": Deaths(3, 1), b"new": Deaths(1, 0)}
    assert held == {b"old", b"new"}
