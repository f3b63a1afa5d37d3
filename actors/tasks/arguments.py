"""The arguments and the result of a task: typed by its signature, JSON in between."""

from __future__ import annotations

import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import to_json

from actors.api.annotations import spelled
from actors.errors import ConfigurationError, InvalidArguments, InvalidMessage
from actors.logic.settlement.failure import describe
from actors.tasks.context import JobContext

_VARIABLE = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_JSON = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")


class Signature:
    """The parameters of a task's function, and what it returns.

    Raises `ConfigurationError` where they cannot be validated.
    """

    def __init__(self, task: str, function: Any, *, is_method: bool = False) -> None:
        self._task = task
        self._function = function
        self._is_bulk = False
        parameters = inspect.signature(function).parameters
        self.parameters = dict(list(parameters.items())[is_method:])

    @staticmethod
    @functools.cache
    def plain() -> TypeAdapter[Any]:
        """Encodes and decodes any JSON."""
        return TypeAdapter(Any, config=_JSON)

    @functools.cached_property
    def context(self) -> str:
        """The parameter that gets the `JobContext`; empty: none."""
        found = (name for name in self.parameters if _is_context(self.hints.get(name)))
        return next(found, "")

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        """The annotations, resolved: later than the declaration, for they may name what follows."""
        try:
            return typing.get_type_hints(self._function, include_extras=True)
        except Exception as error:
            raise ConfigurationError(
                f"task {self._task}: its annotations cannot be resolved: {describe(error)}"
            ) from None

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The arguments in order, without the context."""
        return tuple(
            self.model.model_fields[name].alias or name for name in self.model.model_fields
        )

    @functools.cached_property
    def _aliases(self) -> tuple[tuple[str, str], ...]:
        """The fields of the model, each with the argument that it stands for."""
        fields = self.model.model_fields.items()
        return tuple((name, str(field.alias)) for name, field in fields)

    @functools.cached_property
    def model(self) -> type[BaseModel]:
        """Validates arguments by name."""
        fields: dict[str, Any] = {}
        for number, (name, parameter) in enumerate(self.parameters.items()):
            if stars := [mark for kind, mark in _VARIABLE.items() if kind is parameter.kind]:
                raise ConfigurationError(
                    f"task {self._task}: {stars[0]}{name} is not taken: give each argument a name"
                )
            hint = self.hints.get(name, Any)
            if name == self.context:
                continue
            if self._is_bulk:
                hint = _item_of(hint)
            default = ... if parameter.default is parameter.empty else parameter.default
            # A field of a model may not have every name that an argument may.
            fields[f"argument_{number}"] = (hint, _field(default, name))
        config = ConfigDict(
            extra="forbid", arbitrary_types_allowed=False, populate_by_name=False,
            allow_inf_nan=False, **_JSON,
        )  # fmt: skip
        try:
            return create_model(self._task, __config__=config, **fields)
        except Exception as error:
            cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ConfigurationError(f"task {self._task}: {cause}") from None

    @functools.cached_property
    def _validate(self) -> Callable[[bytes], BaseModel]:
        return self.model.__pydantic_validator__.validate_json

    @functools.cached_property
    def _needs_any(self) -> bool:
        return any(field.is_required() for field in self.model.model_fields.values())

    @functools.cached_property
    def result(self) -> TypeAdapter[Any]:
        """Encodes and decodes what the task returns."""
        hint = self.hints.get("return", Any)
        if self._is_bulk:
            hint = _without_errors(_item_of(hint))
        try:
            return TypeAdapter(
                Any if hint is None else hint, config=None if _has_config(hint) else _JSON
            )
        except Exception as error:
            cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise ConfigurationError(
                f"task {self._task}: its result {spelled(hint)} is no JSON: {cause}"
            ) from None

    def of_items(self) -> Signature:
        """The signature that callers of a bulk task see: one in, one out."""
        self._is_bulk = True
        return self

    def check(self) -> None:
        """Raises `ConfigurationError` where arguments or result cannot be validated."""
        _ = self.model, self.result

    def described(self) -> str:
        """The arguments and the result with their types, for people."""
        shown = []
        for field in self.model.model_fields.values():
            optional = "" if field.is_required() else f" = {field.default!r}"
            shown.append(f"{field.alias}: {spelled(field.annotation)}{optional}")
        result = self.hints.get("return")
        arrow = "" if result in (None, type(None)) else f" -> {spelled(result)}"
        return f"({', '.join(shown)}){arrow}"

    def encode(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[bytes, dict[str, Any]]:
        """The arguments of a call as JSON, and by name. Raises TypeError where they do not fit,
        `InvalidArguments` where one is not of its type."""
        names = self.names
        if len(args) > len(names):
            raise TypeError(f"task {self._task} takes {len(names)} arguments, not {len(args)}")
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names:
                raise TypeError(
                    f"task {self._task} has no argument {name!r}; there are:"
                    f" {', '.join(names) or 'none'}"
                )
            if name in values:
                raise TypeError(f"task {self._task}: argument {name} is given twice")
            values[name] = value
        model = self._validated(values)
        try:
            body = model.model_dump_json(by_alias=True).encode()
        except Exception as error:
            raise InvalidArguments(f"task {self._task}: no JSON: {describe(error)}") from None
        return body, values

    def _validated(self, values: Mapping[str, Any]) -> BaseModel:
        missing = [f.alias for f in self.model.model_fields.values() if f.is_required()]
        if absent := [str(name) for name in missing if name not in values]:
            raise TypeError(f"task {self._task}: argument {', '.join(absent)} is missing")
        try:
            return self.model.model_validate(values)
        except ValidationError as error:
            raise InvalidArguments(f"task {self._task}: {_told(error)}") from None
        except Exception as error:  # a validator may raise anything
            raise InvalidArguments(f"task {self._task}: {describe(error)}") from None

    def decode(self, body: bytes, form: str = "") -> dict[str, Any]:
        """The arguments of a message, by name: an object is named arguments, any other value the
        one argument; `form` says otherwise: "one" or "list". `null`, or nothing, are no arguments
        where the task needs none, as callers of crew send it. Raises `InvalidMessage`."""
        from actors.api.message import decode_json

        if not form and body in (b"", b"null") and not self._needs_any:
            body = b"{}"
        start = body[:1]
        if form == "list" or (start == b"[" and form != "one" and len(self.names) != 1):
            given = decode_json(body)
            if not isinstance(given, list):
                raise InvalidMessage("arguments: a list was announced, and it is none")
            if len(given) > len(self.names):
                raise InvalidMessage(
                    f"arguments: {len(given)} are too many, the task takes {len(self.names)}"
                )
            body = to_json(dict(zip(self.names, given, strict=False)))
        elif form == "one" or start != b"{":
            if not self.names:
                raise InvalidMessage("arguments: the task takes none")
            body = to_json({self.names[0]: decode_json(body)})
        try:
            model = self._validate(body)
        except ValidationError as error:
            raise InvalidMessage(_told(error)) from None
        except Exception as error:  # a validator may raise anything
            raise InvalidMessage(describe(error)) from None
        values = model.__dict__
        return {alias: values[name] for name, alias in self._aliases}


def _field(default: Any, alias: str) -> Any:
    from pydantic import Field

    return Field(default, alias=alias)


def _item_of(hint: Any) -> Any:
    """The items of a list; anything where it does not say."""
    return (typing.get_args(hint) or (Any,))[0]


def _without_errors(hint: Any) -> Any:
    """A bulk task may return exceptions among its results."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    kept = [
        one
        for one in typing.get_args(hint)
        if not (isinstance(one, type) and issubclass(one, BaseException))
    ]
    return functools.reduce(operator.or_, kept) if kept else Any


def _is_context(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, JobContext)


def _has_config(hint: Any) -> bool:
    """A model brings its own configuration."""
    return isinstance(hint, type) and (
        issubclass(hint, BaseModel)
        or hasattr(hint, "__dataclass_fields__")
        or typing.is_typeddict(hint)
    )


def _told(error: ValidationError) -> str:
    """What is wrong, without the values: arguments belong into no log."""
    told = [
        f"argument {'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}"
        for one in error.errors(include_input=False, include_url=False, include_context=False)[:3]
    ]
    return "; ".join(told)
