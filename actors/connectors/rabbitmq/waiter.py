"""Whoever waits for a value that another thread brings: a coroutine on its loop, or a thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Waiter(Generic[T]):
    """One that waits, made where it waits."""

    __slots__ = ("_future", "_loop")

    def __init__(self, *, is_async: bool) -> None:
        self._loop = asyncio.get_running_loop() if is_async else None
        self._future: Any = self._loop.create_future() if self._loop else Future()

    async def value(self, timeout: float | None = None) -> T:
        """The value, on the loop. Raises what was told in its place, and TimeoutError."""
        if timeout is None:
            return await self._future  # type: ignore[no-any-return]
        async with asyncio.timeout(timeout):
            return await self._future  # type: ignore[no-any-return]

    def value_sync(self, timeout: float | None = None) -> T:
        """The same in a thread."""
        return self._future.result(timeout)  # type: ignore[no-any-return]


def tell(told: Iterable[tuple[Waiter[Any], Any]]) -> None:
    """Each gets its value, or the exception in its place; each loop is woken once for all. Those
    that are gone are not missed."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Any, Any]]] = {}
    for waiter, value in told:
        if waiter._loop is None:
            _settle([(waiter._future, value)])
        else:
            loops.setdefault(waiter._loop, []).append((waiter._future, value))
    for loop, those in loops.items():
        with contextlib.suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(_settle, those)


def _settle(told: Iterable[tuple[Any, Any]]) -> None:
    for future, value in told:
        with contextlib.suppress(InvalidStateError, asyncio.InvalidStateError):
            if isinstance(value, BaseException):
                future.set_exception(value)
            else:
                future.set_result(value)
