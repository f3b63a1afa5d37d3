"""Names of classes are made of the glossary's words and of plain ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("logic", "plan", "roles", "connectors", "stages", "usercode", "ops")

GLOSSARY = (ROOT / "docs/glossary.md").read_text()
TERMS = {
    word
    for term in re.findall(r"\*\*([^*]+)\*\*", GLOSSARY)
    for word in re.findall(r"[a-z]+", term.lower())
}

#: Words of everyday English, of Python and of the protocols, used as everybody does.
PLAIN = set((ROOT / "tests/support/plain_words.txt").read_text().split())


def words_of(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def stem(word: str) -> set[str]:
    """A word with its plural and its participles taken off."""
    ends = ("s", "es", "ed", "d", "er", "ing", "ies")
    stems = {word.removesuffix(end) for end in ends if word.endswith(end)}
    return {word, *stems, *(one + "e" for one in stems), *(one + "y" for one in stems)}


def test_words_of_class_names_are_defined_or_plain() -> None:
    unknown: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / "actors" / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    for word in words_of(node.name):
                        if not stem(word) & (TERMS | PLAIN):
                            unknown[word] = f"{path.relative_to(ROOT)}: {node.name}"
    assert unknown == {}, "define them in docs/glossary.md, or take the field's word"


def test_every_term_is_defined_once() -> None:
    terms = [
        term
        for line in re.findall(r"^\| (\*\*.*?) \|", GLOSSARY, re.MULTILINE)
        for term in re.findall(r"\*\*([^*]+)\*\*", line)
    ]
    assert sorted(terms) == sorted(set(terms))
