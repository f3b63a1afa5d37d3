"""`asyncworker.utils`."""

from actors.api.timeit import Timeit

__all__ = ["Timeit"]
