"""Docstrings say what a thing is: they begin with the noun."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "actors").rglob("*.py"))

#: Words that ask where a name should stand.
QUESTIONS = re.compile(r"(what|which|who|whom|whose|how|where|when|why|whether|whatever)\b", re.I)


def docstrings(path: Path) -> Iterator[tuple[str, str]]:
    tree = ast.parse(path.read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    nodes: list[ast.Module | ast.ClassDef] = [tree, *classes]
    for node in nodes:
        if text := ast.get_docstring(node):
            yield getattr(node, "name", path.name), text


def test_modules_and_classes_are_named_by_a_noun() -> None:
    asking = {
        f"{path.relative_to(ROOT)}: {name}": text
        for path in FILES
        for name, text in docstrings(path)
        if QUESTIONS.match(text)
    }
    assert asking == {}
