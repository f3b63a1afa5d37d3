"""Tables for terminals."""

from __future__ import annotations

from collections.abc import Sequence

from actors.logic.messages.plain import plain

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
