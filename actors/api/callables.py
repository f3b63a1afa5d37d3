"""Checks of whether a user's functions can be called as they will be.

Told where it is declared: in a running system every call would fail.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable
from typing import Any

from actors.api.annotations import function_of, spelled


def fault(function: Any, *names: str) -> str:
    """Why it cannot be called with arguments of these names; empty: it can."""
    if not callable(function):
        return f"must be a function, not {function!r}"
    return _yields(function_of(function)) or _refuses(function, names)


def method_fault(owner: type, name: str) -> str:
    """The same of a method that is called without arguments."""
    method = inspect.getattr_static(owner, name)
    if not inspect.isfunction(method):  # static, bound to the class, or made when it is asked for
        return ""
    return _yields(method) or ("" if accepts(method, None) else "must take no argument but self")


def accepts(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether these arguments fit."""
    try:
        # A decorator may pass more on than it takes: what counts is what it takes itself.
        inspect.signature(function, follow_wrapped=False).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # written in C, and silent about it
        return True
    return True


def promised(function: Any) -> str:
    """The value that a function is annotated to return each time; empty: none."""
    try:
        hint = typing.get_type_hints(function).get("return")
    except Exception:  # names that only type checkers import
        hint = getattr(function, "__annotations__", {}).get("return")
    return spelled(hint) if _always_a_value(hint) else ""


def misfit(function: Any, error: BaseException) -> bool:
    """Whether an error is that a decorator's arguments did not fit the function in its hand."""
    inner = inspect.unwrap(function_of(function))
    if not issubclass(type(error), TypeError) or not inspect.isfunction(inner):
        return False
    trace, ran = error.__traceback__, False
    while trace is not None:
        ran = ran or trace.tb_frame.f_code is inner.__code__
        trace = trace.tb_next
    return not ran and str(error).startswith(f"{inner.__qualname__}() ")


def _yields(function: Any) -> str:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "yields: it must return"
    return ""


def _refuses(function: Any, names: tuple[str, ...]) -> str:
    if accepts(function, *(None for _ in names)):
        return ""
    count = {1: "one argument", 2: "two arguments"}[len(names)]
    return f"must take {count}: {', '.join(names)}"


def _always_a_value(hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _always_a_value(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return all(map(_always_a_value, arguments))
    if origin is typing.Literal:
        return None not in arguments
    kind = origin or hint
    if not isinstance(kind, type) or kind in (types.NoneType, object, Any):
        return False
    if issubclass(kind, Awaitable):
        return bool(arguments) and _always_a_value(arguments[-1])
    return True
