"""The type that a handler's annotation asks for: validated as it is written, or refused."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from actors.api.connector import connectors
from actors.api.message import Message
from actors.errors import InvalidRoute

UNIONS = (typing.Union, types.UnionType)

METADATA = "its metadata would not be checked: write it on the body, list[Message[Annotated[…]]]"


class Unresolved(InvalidRoute):
    """An annotation with a name that is not known, or not yet."""


def payload_type(handler: Any, frame: types.FrameType | None = None) -> Any:
    """The type of bodies that a handler asks for; None: any JSON.

    `frame` is where it is declared: a function may have local names of its own. Raises
    `Unresolved` where a name is not known, `InvalidRoute` for a form that could not be kept.
    """
    function, parameters = _parameters(handler)
    owner, variables = _class_of(handler, function)
    found: list[Any] = []
    refused: list[InvalidRoute] = []
    for parameter in parameters:
        try:
            hint = _resolved(parameter.annotation, function, owner, frame)
            found.append(_of_list(_substituted(hint, variables)))
        except InvalidRoute as error:
            refused.append(error)
    for payload in found:
        if payload is not None:
            return payload
    # Of several parameters one that says nothing may be the one for the messages.
    graver = [one for one in refused if isinstance(one, Unresolved)]
    if graver or (refused and len(refused) == len(parameters)):
        reason = (graver or refused)[0]
        raise type(reason)(f"handler {name_of(handler)} {reason}")
    return None


def function_of(handler: Any) -> Any:
    """The function that runs: of a class its `handle`, of an object its `__call__`."""
    if isinstance(handler, type):
        return getattr(handler, "handle", None)
    if isinstance(handler, functools.partial):
        return function_of(handler.func)
    return handler if inspect.isroutine(handler) else handler.__call__


def name_of(handler: Any) -> str:
    """A handler by name, for people."""
    if isinstance(handler, functools.partial):
        return name_of(handler.func)
    return getattr(handler, "__qualname__", type(handler).__qualname__)


def positional(handler: Any) -> tuple[Callable[..., Any], tuple[None, ...]]:
    """The callable that receives a bulk, and stand-ins for its arguments: a method that is found in
    its class takes the instance first."""
    if not isinstance(handler, type):
        return handler, (None,)
    method = inspect.getattr_static(handler, "handle", None)
    takes_instance = not isinstance(method, staticmethod | classmethod)
    return function_of(handler), (None, None) if takes_instance else (None,)


def spelled(hint: Any) -> str:
    """A type as its user would write it."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return "None" if hint is types.NoneType else hint.__name__
    return re.sub(r"(?:[A-Za-z_]\w*\.|<locals>\.)+(?=\w)|~", "", repr(hint))


# ── where it is written ────────────────────────────────────────────────────────


def _parameters(handler: Any) -> tuple[Any, list[inspect.Parameter]]:
    """The function that is annotated, and its parameter that takes the messages. Of a function
    in a decorator's hand all: only the decorator knows what it passes on."""
    function, arguments = positional(handler)
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except ValueError:  # written in C, and silent about it
        return function, []
    taker = list(signature.bind(*arguments).arguments)[-1]
    outer = function if hasattr(function, "__wrapped__") else function_of(handler)
    inner = inspect.unwrap(outer)
    if inner is outer or signature.parameters[taker].annotation is not inspect.Parameter.empty:
        return inner, [signature.parameters[taker]]
    has_instance = len(arguments) > 1 or inspect.ismethod(outer)
    return inner, list(inspect.signature(inner).parameters.values())[has_instance:]


def _class_of(handler: Any, function: Any) -> tuple[type | None, dict[Any, Any]]:
    """The class in which a handler's method is written, and what the type variables of that
    class are in the handler's."""
    target = getattr(handler, "__self__", handler)
    cls = target if isinstance(target, type) else type(target)
    name = getattr(function, "__name__", "")
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)
    if owner is None or isinstance(target, types.FunctionType | functools.partial):
        return None, {}
    given = getattr(target, "__orig_class__", cls)  # of an object that was made as `Name[Type]()`
    return owner, _variables(given, owner, {}) or {}


def _variables(base: Any, owner: type, known: dict[Any, Any]) -> dict[Any, Any] | None:
    """Type variables of `owner` as `base`, one of its subclasses, fills them in."""
    cls = typing.get_origin(base) or base
    if not (isinstance(cls, type) and issubclass(cls, owner)):
        return None
    values = [_substituted(value, known) for value in typing.get_args(base)]
    filled = dict(zip(getattr(cls, "__parameters__", ()), values, strict=False))
    if cls is owner:
        return filled
    bases = vars(cls).get("__orig_bases__", cls.__bases__)
    answers = (_variables(one, owner, filled) for one in bases)
    return next((answer for answer in answers if answer is not None), None)


def _substituted(hint: Any, variables: Mapping[Any, Any]) -> Any:
    """With what its type variables stand for."""
    if isinstance(hint, typing.TypeVar):
        return variables.get(hint, hint)
    if isinstance(hint, type) and hasattr(hint, "__pydantic_generic_metadata__"):
        free = hint.__pydantic_generic_metadata__["parameters"]  # which typing does not see
        filled = tuple(_substituted(one, variables) for one in free)
        return hint if filled == free else hint[filled]  # type: ignore[index]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    filled = tuple(_substituted(one, variables) for one in arguments)
    if all(one is other for one, other in zip(filled, arguments, strict=True)):
        return hint
    return typing.Union[filled] if origin in UNIONS else (origin or hint)[filled]  # noqa: UP007


def _resolved(hint: Any, function: Any, owner: type | None, frame: types.FrameType | None) -> Any:
    """An annotation without strings, as far as names are known."""
    names = getattr(function, "__globals__", {})
    local = dict(vars(owner)) if owner else {}
    if frame and function.__qualname__.startswith(f"{frame.f_code.co_qualname}.<locals>."):
        local = {**frame.f_locals, **local}

    def annotated() -> None: ...

    annotated.__annotations__ = {"messages": hint}
    try:
        return typing.get_type_hints(annotated, names, local, include_extras=True)["messages"]
    except Exception as error:  # a string may hold any expression
        text = hint if isinstance(hint, str) else spelled(hint)
        raise Unresolved(
            f"is annotated with {text}, which cannot be resolved ({error}): import or define its"
            " names at the top of the module, outside `if TYPE_CHECKING`"
        ) from None


# ── what it asks for ───────────────────────────────────────────────────────────


def _of_list(hint: Any) -> Any:
    """The payload of an annotation of a whole bulk."""
    hint = _plain(hint)
    if _is_anything(hint):
        return None
    if members := _members(hint):
        lists = [one for one in members if _takes_list(one)]
        payloads = {spelled(one): one for one in map(_of_list, lists)}
        if len(payloads) > 1:
            raise InvalidRoute(
                f"asks for {spelled(hint)}, but a bulk may hold both: write"
                f" list[Message[{' | '.join(payloads)}]]"
            )
        if payloads:
            return next(iter(payloads.values()))
    elif isinstance(hint, typing.TypeVar):
        return None
    if typing.get_origin(hint) is typing.Annotated:
        raise InvalidRoute(f"asks for {spelled(hint)}: {METADATA}")
    arguments = typing.get_args(hint)
    if not _takes_list(hint) or len(arguments) > 1:
        raise InvalidRoute(f"takes a list of messages, not {spelled(hint)}: write {_form(hint)}")
    return _of_message(arguments[0]) if arguments else None


def _of_message(hint: Any) -> Any:
    """The payload of an annotation of one message."""
    hint = _plain(hint)
    members = _members(hint)
    if any(map(_is_anything, (hint, *members))):
        return None
    if members:
        payloads = [_of_message(one) for one in members]
        classes = {typing.get_origin(_plain(one)) or _plain(one) for one in members}
        if len(classes) > 1 and any(one != payloads[0] for one in payloads):
            raise InvalidRoute(
                f"asks for {spelled(hint)}, but a route's messages are of one class: write"
                f" list[Message[{' | '.join(map(spelled, payloads))}]]"
            )
        return None if None in payloads else typing.Union[tuple(payloads)]  # noqa: UP007
    if isinstance(hint, typing.TypeVar):
        return None
    if typing.get_origin(hint) is typing.Annotated:
        raise InvalidRoute(f"asks for a list of {spelled(hint)}: {METADATA}")
    origin = typing.get_origin(hint) or hint
    if _is_message(origin):
        return _payload(*(typing.get_args(hint) or (typing.Any,)))
    if isinstance(origin, type) and issubclass(origin, Message):
        raise InvalidRoute(
            f"asks for {spelled(hint)}, a class of its own, which no connection delivers: write"
            " list[Message[…]]"
        )
    raise InvalidRoute(
        f"takes a list of messages, which hold the bodies: write {_form(hint)},"
        f" not list[{spelled(hint)}]"
    )


def _payload(hint: Any) -> Any:
    variable = isinstance(hint, typing.TypeVar) and not _members(hint)
    return None if variable or _is_anything(hint) else hint


def _plain(hint: Any) -> Any:
    """Without the names that it was given: of `type` statements and of `NewType`."""
    while True:
        origin = typing.get_origin(hint)
        if hasattr(origin, "__value__"):
            variables = dict(zip(origin.__type_params__, typing.get_args(hint), strict=False))
            hint = _substituted(origin.__value__, variables)
        elif hasattr(hint, "__value__"):
            hint = hint.__value__
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        else:
            return hint


def _members(hint: Any) -> tuple[Any, ...]:
    """The members of a union or of a type variable, without None, which is never delivered."""
    if isinstance(hint, typing.TypeVar):
        return hint.__constraints__ or ((hint.__bound__,) if hint.__bound__ else ())
    if typing.get_origin(hint) not in UNIONS:
        return ()
    return tuple(one for one in typing.get_args(hint) if one is not types.NoneType)


def _is_anything(hint: Any) -> bool:
    if isinstance(hint, typing.ParamSpecArgs):
        return True
    return hint in (typing.Any, object, inspect.Parameter.empty)


def _takes_list(hint: Any) -> bool:
    """Whether a list may stand where this is asked for."""
    hint = _plain(hint)
    if _is_anything(hint) or typing.get_origin(hint) is typing.Annotated:
        return True
    try:
        return issubclass(list, typing.get_origin(hint) or hint)
    except TypeError:  # no class, or one that answers nobody
        return bool(_members(hint)) and any(map(_takes_list, _members(hint)))


def _form(hint: Any) -> str:
    """The right form of what asks for something else than a list."""
    items = (*typing.get_args(hint), hint)
    kinds = [typing.get_origin(item) or item for item in items]
    told = [item for item, kind in zip(items, kinds, strict=True) if _is_message(kind)]
    return f"list[{spelled(told[0])}]" if told else f"list[Message[{spelled(hint)}]]"


def _is_message(kind: Any) -> bool:
    delivered = (connector.load("message") for connector in connectors())
    return isinstance(kind, type) and kind in {Message, *delivered}
