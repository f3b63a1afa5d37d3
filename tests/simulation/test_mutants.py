"""The simulation finds bugs that were planted: it would find the like of them."""

from __future__ import annotations

import sys

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.shrink import attempt

#: Seeds in which each must have been found.
WITHIN = 200


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    mutant = MUTANTS[name]
    with mutant.planted():
        failures = ((seed, attempt(seed)) for seed in range(WITHIN))
        found = next(((seed, failure) for seed, failure in failures if failure), None)
    assert found, f"{name}: not found in {WITHIN} seeds"
    seed, failure = found
    assert failure.sort in mutant.breaks, f"{name}: {failure.text}"
    sys.stdout.write(f"{name}: {seed + 1} seeds; {failure.text}\n")  # `pytest -rP` shows it
