"""What docs/from-async-worker.md promises can be found where it says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.support.moved import SED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "from-async-worker.md").read_text()
BEHAVIOURS = PAGE.partition("## What stays as it was\n")[2]
DEFECTS = PAGE.partition("## What is better\n")[2].partition("\n## ")[0]

#: Those of async-worker's own inside: what stands in their place is told.
INSIDE = {4, 10, 11, 12, 13, 27, 28, 30, 34, 37}


@cache
def docstrings(path: str) -> dict[str, str]:
    """The tests of a file, each with what it says of itself."""
    tree = ast.parse((ROOT / path).read_text())
    return {
        node.name: ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def numbers(text: str) -> set[int]:
    first, _, last = text.partition("–")
    return set(range(int(first), int(last or first) + 1))


ROWS = [
    (numbers(row[1]), row[2])
    for row in re.finditer(r"^\| ([\d–]+) \|.*?\| ([^|]+) \|$", BEHAVIOURS, re.MULTILINE)
]
TESTED = [
    (found, *match.groups())
    for found, text in ROWS
    if (match := re.fullmatch(r"`(tests/\S+)::(\w+)`", text))
]


def test_each_behaviour_has_a_row_and_a_test_or_what_stands_in_its_place() -> None:
    assert sorted(number for found, _ in ROWS for number in found) == list(range(1, 59))
    tested = {number for found, *_ in TESTED for number in found}
    assert set(range(1, 59)) - tested <= INSIDE


@pytest.mark.parametrize(("found", "path", "test"), TESTED, ids=lambda value: str(value))
def test_a_test_says_which_behaviour_it_shows(found: set[int], path: str, test: str) -> None:
    said = {int(number) for number in re.findall(r"\bB(\d+)\b", docstrings(path)[test])}
    assert found <= said


def test_each_defect_is_shown_by_a_test_that_is_there() -> None:
    cited = re.findall(r"`(?:(tests/\S+)::)?(test_\w+)`", DEFECTS)
    assert len(cited) > 20
    for path, test in cited:
        assert test in docstrings(path or "tests/fast/flows/test_defects.py")
    ours = {test for path, test in cited if not path}
    there = {name for name in docstrings("tests/fast/flows/test_defects.py") if "test_" in name}
    assert there == ours


def test_the_move_is_the_one_that_is_tested() -> None:
    assert f"sed -i '{SED}' *.py\n" in PAGE
