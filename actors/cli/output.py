"""The one way by which the verbs print."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import click

from actors.logic.messages.plain import plain

#: Levels of a value beyond which JSON shows no more of it.
DEPTH = 50


def say(*lines: str, err: bool = False) -> None:
    """Print lines. Nothing in one of them moves the cursor or begins another line."""
    click.echo("\n".join(plain(line) for line in lines), err=err)


def say_json(value: Any) -> None:
    """Print a value as one line of JSON, whatever it holds."""
    say(in_json(value))


def confirm(question: str) -> None:
    """Go on only where somebody says yes."""
    try:
        click.confirm(plain(question), abort=True, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        say("", err=True)  # the question stands there, and no answer ended its line
        raise click.UsageError(
            "nobody at a terminal answered: say --yes to go on without a question"
        ) from None


def in_json(value: Any) -> str:
    """One line of JSON in ASCII; what JSON cannot say is shown as text."""
    # JSON itself leaves DEL as it is, and DEL stands only within strings.
    return json.dumps(_fit(value, DEPTH), default=str).replace("\x7f", "\\u007f")


def _fit(value: Any, depth: int) -> Any:
    if isinstance(value, (dict, list, tuple)) and not depth:
        return "…"
    if isinstance(value, dict):
        return {_text(key): _fit(each, depth - 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fit(each, depth - 1) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _text(value) if isinstance(value, bytes) else value


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


#: Columns; longer lines are cut, for a wrapped table is none.
WIDTH = 100


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], width: int = WIDTH) -> list[str]:
    """Heads and rows in columns, numbers to the right; no line where there are no rows."""
    if not rows:
        return []
    cells = [list(heads)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [isinstance(value, (int, float)) for value in rows[0]]
    lines = []
    for row in cells:
        parts = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ]
        lines.append(_cut("  ".join(parts).rstrip(), width))
    return lines


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return plain(" ".join(str(value).split()))


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
