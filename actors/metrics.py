"""Counters, gauges and histograms for handlers, shown under `/metrics` of `--health`.

    STORED = Counter("orders_stored", "Orders that reached the database.", ["kind"])
    STORED.labels(kind="new").inc(len(orders))

A metric is declared once, anywhere; what is measured counts over all processes of the system
and survives their restarts. Where nobody asked for `--health`, nothing is kept.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

__all__ = ["Counter", "Gauge", "Histogram"]

#: Upper bounds in seconds: from what a cache answers to what a report takes.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True)
class Declaration:
    """The name, kind and labels of a metric."""

    kind: str  #: "Counter", "Gauge" or "Histogram"
    name: str
    documentation: str
    labelnames: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()  #: what only this kind takes


class MetricsRegistry(Protocol):
    """Keeps what this process measures."""

    def find(self, declaration: Declaration, labelvalues: tuple[str, ...]) -> Any:
        """The `prometheus_client` metric to measure with."""


_declared: dict[str, Declaration] = {}
_registry: MetricsRegistry | None = None


def use_registry(registry: MetricsRegistry | None) -> None:
    """Where this process keeps what it measures from now on; None: nowhere."""
    global _registry
    _registry = registry


def declared() -> Iterable[str]:
    """The names of all metrics."""
    return _declared.keys()


class _Metric:
    """A metric of one set of label values, or of none yet."""

    def __init__(
        self, name: str, documentation: str, labelnames: Sequence[str] = (), **options: Any
    ) -> None:
        for text in (name, *labelnames):
            if not _NAME.fullmatch(text) or text == "le" or text.startswith("__"):
                raise ValueError(f"metric {name!r}: {text!r} is no name for a metric or a label")
        kind = type(self).__name__
        declaration = Declaration(
            kind, name, documentation, tuple(labelnames), tuple(options.items())
        )
        if _declared.setdefault(name, declaration) != declaration:
            raise ValueError(f"metric {name!r} is declared a second time, and differently")
        self._begin(declaration, ())

    def _begin(self, declaration: Declaration, values: tuple[str, ...]) -> None:
        self._declaration, self._values = declaration, values
        self._children: dict[tuple[str, ...], Self] = {}  # by label values
        self._found: tuple[MetricsRegistry | None, Any] = (None, None)  # where, and what

    def labels(self, *values: object, **named: object) -> Self:
        """The same metric for these label values, by order or by name.

        Raises ValueError where they are not those of the declaration.
        """
        names = self._declaration.labelnames
        if named and not values and named.keys() == set(names):
            values = tuple(named[name] for name in names)
        elif named or len(values) != len(names) or self._values:
            raise ValueError(f"metric {self._declaration.name!r}: its labels are {names}")
        texts = tuple(map(str, values))
        child = self._children.get(texts)
        if child is None:
            child = self._children[texts] = object.__new__(type(self))
            child._begin(self._declaration, texts)
        return child

    def _kept(self) -> Any:
        """What to measure with; None where nobody asked for it."""
        if len(self._values) != len(self._declaration.labelnames):
            raise ValueError(
                f"metric {self._declaration.name!r} has labels: call labels() first, with"
                f" {self._declaration.labelnames}"
            )
        registry, found = self._found
        if registry is not _registry:
            found = _registry and _registry.find(self._declaration, self._values)
            self._found = _registry, found
        return found


class Counter(_Metric):
    """Only grows. `_total` is added to its name."""

    def __init__(self, name: str, documentation: str, labelnames: Sequence[str] = ()) -> None:
        super().__init__(name.removesuffix("_total"), documentation, labelnames)

    def inc(self, amount: float = 1) -> None:
        """Add `amount`. Raises ValueError where it is negative."""
        if amount < 0:
            raise ValueError("a counter only grows")
        if kept := self._kept():
            kept.inc(amount)


class Gauge(_Metric):
    """Goes up and down; `over` says what one number to show over all living processes."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        *,
        over: Literal["sum", "min", "max", "mostrecent"] = "sum",
    ) -> None:
        super().__init__(name, documentation, labelnames, multiprocess_mode=f"live{over}")

    def set(self, value: float) -> None:
        if kept := self._kept():
            kept.set(value)

    def inc(self, amount: float = 1) -> None:
        """Add `amount`. Raises RuntimeError for a gauge over "mostrecent"."""
        if kept := self._kept():
            kept.inc(amount)

    def dec(self, amount: float = 1) -> None:
        """Take `amount` away. Raises RuntimeError for a gauge over "mostrecent"."""
        self.inc(-amount)


class Histogram(_Metric):
    """The number of values below each bound. In seconds, unless other `buckets` are given."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labelnames: Sequence[str] = (),
        *,
        buckets: Sequence[float] = BUCKETS,
    ) -> None:
        if not buckets or list(buckets) != sorted(set(buckets)):
            raise ValueError(f"metric {name!r}: buckets must be upper bounds that ascend")
        super().__init__(name, documentation, labelnames, buckets=tuple(buckets))

    def observe(self, value: float) -> None:
        if kept := self._kept():
            kept.observe(value)

    @contextmanager
    def time(self) -> Iterator[None]:
        """Observe the seconds that the block takes, also where it raises."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - begin)
