"""A message of the spool, as a handler receives it."""

from __future__ import annotations

from typing import Any, TypeVar

from actors.api.message import Message
from actors.errors import InvalidMessage
from actors.logic.messages.records import Record, unpack

T = TypeVar("T")


class SpoolMessage(Message[T]):
    """A delivery of the embedded spool."""

    __slots__ = ()

    @property
    def serialized_data(self) -> bytes:
        return self._record.body

    @property
    def headers(self) -> dict[str, Any]:
        try:
            return read_headers(self._record)
        except InvalidMessage as error:
            raise self._is_invalid(error) from None

    @property
    def id(self) -> str:
        return str(self._record.id)

    @property
    def attempts(self) -> int:
        return max(self._before, self._record.attempts)

    @property
    def redelivered(self) -> bool:
        return self.attempts > 0

    @property
    def _record(self) -> Record:
        if self._parsed is None:
            self._parsed = unpack(self._raw)
        return self._parsed  # type: ignore[no-any-return]

    @classmethod
    def order_key(cls, raw: bytes, order_by: str) -> Any:
        record = unpack(raw)
        if order_by == "routing_key":
            return record.queue
        return read_headers(record).get(order_by.removeprefix("header:"), "")


def read_headers(record: Record) -> dict[str, Any]:
    """The headers of a spooled message; raises InvalidMessage."""
    try:
        return record.headers
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"headers: {type(error).__name__}: {error}") from None
