"""What Callboard is to reach, as ratios within one run; report.py says whether it does."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results import Result
from benchmarks.scenes import EACH, LIMIT, MANY, OURS, SPOOLS

SINGLE = (MANY, EACH, "aio-pika", "async-worker")  #: in (c): they have one process
ASYNC = ("aio-pika", "async-worker", "FastStream", "Dramatiq", "Celery")


@dataclass(frozen=True)
class Target:
    """`metric` of `who`, divided by the best of `beside` where any is named, against `bound`."""

    scene: str
    bound: float
    beside: Sequence[str] = ()
    beside_scene: str = ""  #: empty: the same
    metric: str = "rate"
    at_most: bool = False  #: else at least
    who: str = OURS
    unit: str = ""

    def text(self) -> str:
        sign = "≤" if self.at_most else "≥"
        if not self.beside:
            return f"{sign} {self.bound:g} {self.unit}"
        name = self.beside[0] if len(self.beside) == 1 else "the best peer"
        return f"{sign} {self.bound:g} × {name}" + (
            f" of {self.beside_scene}" if self.beside_scene else ""
        )

    def measured(self, results: Mapping[str, Result]) -> float | None:
        """The median over the runs; none where a figure is missing."""
        if self.scene not in results or (self.beside_scene or self.scene) not in results:
            return None
        runs = results[self.scene].runs
        others = results[self.beside_scene or self.scene].runs
        ratios = []
        for run, other in zip(runs, others, strict=False):
            rivals = [other[name][self.metric] for name in self.beside if name in other]
            if self.who not in run or bool(rivals) != bool(self.beside):
                continue
            best = max(rivals, default=1.0)
            ratios.append(run[self.who][self.metric] / best)
        return statistics.median(ratios) if ratios else None

    def met(self, measured: float) -> bool:
        return measured <= self.bound if self.at_most else measured >= self.bound


TARGETS = (
    Target("a-120", 0.75, (LIMIT,)),
    Target("a-120", 1.1, (MANY,)),
    Target("a-120", 4, ("async-worker",)),
    Target("a-120", 7, ("FastStream",)),
    Target("a-120", 5, ("Dramatiq",)),
    Target("b", 1.0, (EACH,)),
    Target("c", 1.7, SINGLE),
    Target("d", 1.5, ASYNC),
    Target("d-1", 1.5, ASYNC),
    Target("e", 3, ("aio-pika",), metric="p50", at_most=True),
    Target("e", 10, metric="p99", at_most=True, unit="ms"),
    Target("f", 0.6, (OURS,), "a-120"),
    Target("g-50", 0.8, (OURS,), "g-1"),
    Target("h", 5, ("huey, SQLite",), who=SPOOLS[0]),
    Target("h", 5, ("RQ, worker", "RQ, simple worker"), who=SPOOLS[0]),
    Target("j", 1.5, metric="first", at_most=True, unit="s"),
    Target("j", 100, metric="load", at_most=True, unit="MiB under load"),
)
