"""Decoders from bytes to what a handler reads; what cannot be decoded is an InvalidMessage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from actors.errors import InvalidMessage
from actors.logic.settlement.failure import describe

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError


def decode_json(data: bytes) -> Any:
    """The value of a JSON text; raises InvalidMessage."""
    try:
        return from_json(data)  # in a tenth of the time that json takes …
    except ValueError:
        pass
    try:
        value = json.loads(data)  # … which takes more: 202 levels and deeper, a BOM, UTF-16
        json.dumps(value, ensure_ascii=False).encode()  # but half a character is no text
    except (ValueError, RecursionError) as error:  # RecursionError: nested beyond measure
        raise InvalidMessage(f"not JSON: {error}") from None
    return value


def decode_text(data: bytes) -> Any:
    """The value of a JSON text, or the text itself where it is not JSON."""
    try:
        return decode_json(data)
    except InvalidMessage:
        return data.decode("utf-8", "replace")


def decoder_for(adapter: TypeAdapter[Any] | None, plain_text: bool) -> Callable[[bytes], Any]:
    """A decoder of JSON into the type that a handler asks for; None: any JSON.

    Both read the same texts as JSON. With `plain_text`, a body that is not JSON is a text.
    """
    read = decode_text if plain_text else decode_json
    if adapter is None:
        return read
    from pydantic import ValidationError

    def validate(data: bytes) -> Any:
        try:
            return adapter.validate_json(data)
        except ValidationError as error:
            if not _is_no_json(error):
                raise
        value = read(data)
        if isinstance(value, str):  # it may stand for what Python has other types for
            return adapter.validate_json(json.dumps(value))
        try:
            return adapter.validate_json(data.decode(json.detect_encoding(data)))
        except ValidationError as error:
            if not _is_no_json(error):
                raise
        return adapter.validate_python(value)  # deeper than pydantic parses

    def decode(data: bytes) -> Any:
        try:
            try:
                return validate(data)
            except ValidationError as error:
                reason = _without_input(error.errors())
        except InvalidMessage:
            raise
        except Exception as error:  # a validator may raise anything, also when it is asked what
            reason = describe(error)
        raise InvalidMessage(reason)

    return decode


def _is_no_json(error: ValidationError) -> bool:
    """Whether the whole text could not be parsed."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return first["type"] == "json_invalid" and not first["loc"]


def _without_input(errors: list[Any]) -> str:
    """What is wrong, without the input itself: bodies belong into no log."""
    first = "; ".join(
        f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}" for error in errors[:3]
    )
    return first if len(errors) <= 3 else f"{first}; and {len(errors) - 3} more"
