"""A handler's report on its own work, which travels with its settlements."""

from __future__ import annotations

from typing import NamedTuple


class Report(NamedTuple):
    """A handler's work for one route, in the bulks that a settlement answers."""

    route: str
    bulks: int = 0
    deliveries: int = 0
    seconds: float = 0.0  #: that it took for them
    error: str = ""  #: the last exception, for people
