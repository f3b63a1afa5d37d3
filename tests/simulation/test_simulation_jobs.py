"""Jobs under random faults, and the bugs that were planted for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from sqlite3 import Connection
from typing import Any
from unittest import mock

import pytest

from actors.connectors.spool import jobs
from actors.logic.bulks.route_queue import RouteQueue
from actors.roles.batcher import Batcher
from tests.simulation.jobs import attempt

#: A play takes a fifth of a second: SQLite is real.
SEEDS = max(150, int(os.environ.get("CALLBOARD_SEEDS", "400").rpartition("-")[2]) // 50)
#: Seeds in which a planted bug must have been found.
WITHIN = 150


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_jobs_have_one_outcome_each_whatever_happens(first: int) -> None:
    failures = {seed: text for seed in range(first, first + 50) if (text := attempt(seed))}
    assert failures == {}


def _finish_nothing(at: Connection, done: Any) -> None: ...


def _release_whatever_was_asked(
    at: Connection, owner: str, seqs: Any = None, *, dead: bool
) -> None: ...


def _free_nothing(at: Connection, seqs: Any) -> None: ...


def _hear_nothing(self: Any, *_: Any) -> None: ...


_lose = RouteQueue.lose


def _lose_as_if_it_could_run_again(self: RouteQueue, *args: Any, **options: Any) -> Any:
    with mock.patch.object(self, "at_most_once", False):
        return _lose(self, *args, **options)


MUTANTS: dict[str, tuple[Any, str, Callable[..., Any], set[str]]] = {
    "a message is deleted without its outcome": (jobs, "finish", _finish_nothing, {"J2"}),
    "what was asked is forgotten with the hand": (
        jobs, "release", _release_whatever_was_asked, {"J1", "J4", "J5", "J7"},
    ),
    "a unique key is kept by what has ended": (jobs, "_free_keys", _free_nothing, {"J8"}),
    "nobody hears that a job has begun": (Batcher, "_began", _hear_nothing, {"J6"}),
    "what may run once is tried again": (
        RouteQueue, "lose", _lose_as_if_it_could_run_again, {"J5"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_of_jobs_is_found(name: str) -> None:
    owner, attribute, function, breaks = MUTANTS[name]
    with mock.patch.object(owner, attribute, function):
        found = next((text for seed in range(WITHIN) if (text := attempt(seed))), "")
    assert found, f"{name}: not found in {WITHIN} seeds"
    assert found[:2] in breaks, found
