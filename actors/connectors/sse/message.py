"""An event of an event stream, as a handler receives it."""

from __future__ import annotations

from typing import TypeVar

from actors.connectors.spool.message import SpoolMessage

T = TypeVar("T")


class Event(SpoolMessage[T]):
    """A Server-Sent Event. `body` is the value of its JSON, or the text where it is not JSON."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """Its type; "message" where the stream names none."""
        return str(self.headers.get("event", "message"))

    @property
    def data(self) -> str:
        """The text as it came, its lines joined."""
        return self.serialized_data.decode("utf-8", "replace")

    @property
    def id(self) -> str:
        """The last event id of the stream; empty where there is none."""
        return str(self.headers.get("id", self._record.id))

    @property
    def retry(self) -> int | None:
        """Milliseconds to wait before connecting again, where this event named them."""
        retry: int | None = self.headers.get("retry")
        return retry
