"""From bytes to what a handler reads; what cannot be decoded is an InvalidMessage."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from actors.errors import InvalidMessage
from actors.logic.failure import describe
from actors.logic.records import Record

if TYPE_CHECKING:
    from pika.spec import BasicProperties
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


def decode_event(data: bytes) -> Any:
    """The value of a JSON text, or the text itself where it is not JSON."""
    try:
        return decode_json(data)
    except InvalidMessage:
        return data.decode("utf-8", "replace")


def decoder_for(adapter: TypeAdapter[Any] | None, kind: str) -> Callable[[bytes], Any]:
    """A decoder of JSON into the type that a handler asks for; None: any JSON.

    Both read the same texts as JSON. Of an event stream, what is not JSON is taken as a text.
    """
    read = decode_event if kind == "sse" else decode_json
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


def decode_properties(payload: bytes) -> BasicProperties:
    """AMQP properties from the payload of their frame; raises InvalidMessage."""
    from pika.spec import BasicProperties  # 15 ms that a spool need not pay

    properties = BasicProperties()
    try:
        properties.decode(payload)
    except Exception as error:  # whatever pika raises on dates past 9999, deep tables, cut ones
        raise InvalidMessage(f"properties: {type(error).__name__}: {error}") from None
    return properties


def read_headers(record: Record) -> dict[str, Any]:
    """The headers of a spooled message; raises InvalidMessage."""
    try:
        return record.headers
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"headers: {type(error).__name__}: {error}") from None


def _without_input(errors: list[Any]) -> str:
    """What is wrong, without the input itself: bodies belong into no log."""
    first = "; ".join(
        f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}" for error in errors[:3]
    )
    return first if len(errors) <= 3 else f"{first}; and {len(errors) - 3} more"
