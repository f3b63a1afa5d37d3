"""Text that others wrote, made fit for a line and for a terminal."""

from __future__ import annotations

import re

#: Characters that Python counts as printable, and that no terminal shows.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def plain(text: str) -> str:
    """The text with an escape for each character that shows nothing of itself.

    Control characters move the cursor and forge lines, bidirectional marks turn a line round,
    and what has no width hides in it.
    """
    if text.isprintable() and not _INVISIBLE.search(text):
        return text
    return "".join(
        char if char.isprintable() and not _INVISIBLE.match(char) else _escaped(char)
        for char in text
    )


def encodable(text: str) -> str:
    """The text with an escape for each half of a character, which no UTF-8 can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _escaped(char: str) -> str:
    shown = char.encode("unicode_escape").decode()
    return shown if shown != char else f"\\u{ord(char):04x}"
