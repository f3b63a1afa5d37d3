"""`asyncworker.decorators`."""

from functools import wraps

__all__ = ["wraps"]
