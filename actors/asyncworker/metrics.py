"""`asyncworker.metrics`."""

from actors.metrics import Counter, Gauge, Histogram

__all__ = ["Counter", "Gauge", "Histogram"]
