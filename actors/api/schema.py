"""The base of everything a user declares by keyword: strict, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError
from pydantic import model_validator as validator
from pydantic_core import ErrorDetails

from actors.errors import ConfigurationError


class Schema(BaseModel):
    """Unknown keywords are errors; a field declared with `repr=False` is never shown."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    noun: ClassVar[str] = "setting"
    aliases: ClassVar[Mapping[str, str]] = {}

    @validator(mode="wrap")
    @classmethod
    def _explained(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(values, dict):
            values = cls._renamed(values)
        try:
            return handler(values)
        except ValidationError as error:
            raise ConfigurationError(cls._explain(_telling(error.errors()))) from None

    @classmethod
    def _renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        renamed: dict[str, Any] = {}
        for key, value in values.items():
            field = cls.aliases.get(key, str(key))
            if field in renamed:
                raise ConfigurationError(f"{field} and {key} are the same {cls.noun}: give one")
            renamed[field] = value
        return renamed

    @classmethod
    def _explain(cls, error: ErrorDetails) -> str:
        name = str(error["loc"][0]) if error["loc"] else cls.__name__
        if error["type"] == "extra_forbidden":
            return f"unknown {cls.noun} {name!r}; valid: {', '.join(cls.model_fields)}"
        if error["type"] == "missing":
            return f"{cls.noun} {name} is missing"
        message = error["msg"].removeprefix("Value error, ")
        field = cls.model_fields.get(name)
        shown = f", not {error['input']!r}" if field is not None and field.repr else ""
        return f"{cls.noun} {name}: {message[0].lower()}{message[1:]}{shown}"


def _telling(errors: list[ErrorDetails]) -> ErrorDetails:
    """Of several errors the one to tell: a name that is misspelled is missing as well."""
    return next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
