"""`asyncworker.utils`."""

from actors.timeit import Timeit

__all__ = ["Timeit"]
