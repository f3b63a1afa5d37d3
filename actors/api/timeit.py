"""Measures how long code takes, and calls back with the times once it is over."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from types import TracebackType
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])


class Measurement:
    """One run of what a `Timeit` measures; called with a name, it measures a part of it."""

    def __init__(self, owner: Timeit) -> None:
        self.owner = owner
        self.start = 0.0
        self.over = False
        self.transactions: dict[str, float] = {}  #: seconds by name, as they ended
        self._names: set[str] = set()

    def __call__(self, *, name: str) -> Transaction:
        return Transaction(name, self)

    def reserve(self, name: str) -> None:
        """Raises ValueError where there is a part of this name."""
        if name in self._names:
            raise ValueError(f"Timeit {self.owner.name!r}: two transactions are named {name!r}")
        self._names.add(name)


#: What is measured in this task or thread, the innermost last.
_running: ContextVar[tuple[Measurement, ...]] = ContextVar("running", default=())


class _Timing:
    """A context manager, plain and `async`, and a decorator of both kinds of function."""

    name: str
    callback: Callable[..., Any] | None = None

    @overload
    def __call__(self, function: F) -> F: ...
    @overload
    def __call__(self, function: None = None, *, name: str) -> Transaction: ...
    def __call__(self, function: Any = None, name: str | None = None) -> Any:
        """Decorate a function; or, with `name`, measure a part of what is measured here."""
        if name is not None:
            return self._measurement()(name=name)
        if function is None:
            raise ValueError("Timeit: give the function to decorate, or the name= of a part")
        return self._timed(function)

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if _is_async(function):

            @functools.wraps(function)
            async def timed_async(*args: Any, **kwargs: Any) -> Any:
                async with self:
                    return await function(*args, **kwargs)

            return timed_async

        self._check_callback()

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return timed

    def __enter__(self) -> Measurement:
        self._check_callback()
        return self._begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(kind, error, trace)

    async def __aenter__(self) -> Measurement:
        return self._begin()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        told = self._end(kind, error, trace)
        if inspect.isawaitable(told):
            await told

    def _check_callback(self) -> None:
        if self.callback is not None and _is_async(self.callback):
            raise TypeError(
                f"Timeit {self.name!r}: an async callback needs `async with` or an `async def`"
            )

    def _measurement(self) -> Measurement:
        """What a part of this belongs to."""
        raise NotImplementedError

    def _begin(self) -> Measurement:
        raise NotImplementedError

    def _end(self, kind: Any, error: Any, trace: Any) -> Any:
        """Stop the clock; returns what the callback did, if there is one."""
        raise NotImplementedError


class Timeit(_Timing):
    """Measures a block or a function in seconds, each run of it for itself.

    At the end of a run `callback` is called once, with `transactions` (seconds by name, of
    the parts too), `exc_type`, `exc_val` and `exc_tb`; what was raised goes on. An instance
    may be used again, within itself, and by several tasks and threads at once.
    """

    def __init__(self, name: str, callback: Callable[..., Any] | None = None) -> None:
        self.name = name
        self.callback = callback

    def _measurement(self) -> Measurement:
        for measurement in reversed(_running.get()):
            if measurement.owner is self and not measurement.over:
                return measurement
        raise RuntimeError(f"Timeit {self.name!r}: measures nothing in this task or thread")

    def _begin(self) -> Measurement:
        measurement = Measurement(self)
        measurement.reserve(self.name)
        # A task inherits what its creator measures, and may well outlive that.
        open_ones = (one for one in _running.get() if not one.over)
        _running.set((*open_ones, measurement))
        measurement.start = perf_counter()
        return measurement

    def _end(self, kind: Any, error: Any, trace: Any) -> Any:
        now = perf_counter()
        measurement = self._measurement()
        measurement.over = True
        measurement.transactions[self.name] = now - measurement.start
        if self.callback is None:
            return None
        transactions = dict(measurement.transactions)  # a part that ends later changes nothing
        return self.callback(transactions=transactions, exc_type=kind, exc_val=error, exc_tb=trace)


class Transaction(_Timing):
    """A part of a measurement, made by calling that with a name."""

    def __init__(self, name: str, measurement: Measurement) -> None:
        self.name = name
        self._whole = measurement

    def _measurement(self) -> Measurement:
        return self._whole

    def _begin(self) -> Measurement:
        self._whole.reserve(self.name)
        self._start = perf_counter()
        return self._whole

    def _end(self, kind: Any, error: Any, trace: Any) -> None:
        self._whole.transactions[self.name] = perf_counter() - self._start


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(function.__call__)
