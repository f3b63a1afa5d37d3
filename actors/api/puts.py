"""Puts that were begun: the call of user code that began one answers for it.

A `put` that nobody awaits stores nothing, or fails unseen, and the message that led to it would
be acknowledged all the same.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, Token
from typing import Any, TypeVar

from actors.errors import InvalidHandler
from actors.logic.settlement.failure import describe

T = TypeVar("T")


class Puts:
    """The puts that one call of user code has begun."""

    __slots__ = ("_begun", "_task")

    def __init__(self, task: asyncio.Task[Any] | None = None) -> None:
        """With `task`, not what others on its loop put: a hook may start one that stays."""
        self._begun: list[_Put] = []
        self._task = task

    def enter(self) -> Token[Puts | None]:
        """From now on puts of this context are among them."""
        return _answering.set(self)

    def check(self) -> None:
        """At the end of the call. Raises InvalidHandler where one was not awaited."""
        problems = [problem for put in self._begun if (problem := put.problem())]
        if problems:
            raise InvalidHandler("; ".join(problems))

    def forget(self) -> None:
        """At the end of a call that failed by itself."""
        for put in self._begun:
            put.problem()

    def add(self, put: _Put) -> None:
        own, task = self._task, _task()
        if own and task and task is not own and task.get_loop() is own.get_loop():
            return
        self._begun.append(put)


#: The puts of the call that is running in this context.
_answering: ContextVar[Puts | None] = ContextVar("answering", default=None)


def leave(token: Token[Puts | None]) -> None:
    """Puts of this context are no longer among those of the call that entered it."""
    _answering.reset(token)


def begun(
    what: str, place: object, instead: str, store: Callable[..., Coroutine[Any, Any, T]], *args: Any
) -> Coroutine[Any, Any, T]:
    """`store(*args)`, which the call that runs in this context is to await: a put to a place,
    whatever its caller has named.

    `instead` is what a function calls that cannot await. To be called by what users call.
    """
    put = _Put()
    coroutine: Any = put.run(store, *args)
    coroutine.__qualname__ = what  # for Python's own warning
    puts = _answering.get()
    if puts is not None:
        caller = sys._getframe(2)
        shown = repr(place) if isinstance(place, str) else type(place).__name__
        put.what = f"{caller.f_code.co_filename}:{caller.f_lineno}: {what} to {shown}"
        put.instead = instead
        put.coroutine = coroutine
        puts.add(put)
    return coroutine  # type: ignore[no-any-return]


class _Put:
    __slots__ = ("coroutine", "error", "instead", "started", "task", "what")

    def __init__(self) -> None:
        self.coroutine: Coroutine[Any, Any, Any]
        self.what = ""
        self.instead = ""
        self.started = False
        self.task: asyncio.Task[Any] | None = None  #: that it ran in
        self.error: BaseException | None = None

    async def run(self, store: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        self.started, self.task = True, _task()
        try:
            return await store(*args)
        except Exception as error:
            self.error = error
            raise

    def problem(self) -> str:
        """What is wrong with it at the end of the call; empty: nothing."""
        state = inspect.getcoroutinestate(self.coroutine)
        if state == inspect.CORO_CREATED:
            self.coroutine.close()
        if not self.started:
            fault = "was never awaited"
        elif state != inspect.CORO_CLOSED:
            fault = "was still under way when its handler ended"
        elif self.error and _unseen(self.task):
            fault = f"failed, and nobody awaited it ({describe(self.error)})"
        else:
            return ""
        return f"{self.what} {fault}: await it, or use {self.instead} where there is no await"


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return None


def _unseen(task: asyncio.Task[Any] | None) -> bool:
    """Whether nobody has asked what a task came to."""
    return bool(getattr(task, "_log_traceback", False))
