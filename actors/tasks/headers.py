"""The headers of a job's message, beside those that its caller gave."""

from __future__ import annotations

from typing import Any

PREFIX = "x-callboard-"

TASK = "x-callboard-task"  #: the name of the task, where its queue serves several
TIMEOUT = "x-callboard-timeout"  #: seconds of a run, where they are not the task's
ATTEMPTS = "x-callboard-attempts"  #: 1: somebody waits, and the task need not be retried
ARGUMENTS = "x-callboard-arguments"  #: "one" or "list", where the body does not say it
RESULT = "x-callboard-result"  #: "none": nobody wants it
SECRET = "x-callboard-secret"  #: names of arguments that nobody is shown
META = "x-callboard-meta"  #: of a run after the first, from the store


def number_of(value: Any, otherwise: float) -> float:
    """A number that a header has; otherwise where it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value > 0 else otherwise
