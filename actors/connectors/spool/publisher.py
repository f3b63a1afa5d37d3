"""A spool as the place where handlers put messages: queues by name, one write for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from actors.connectors.spool.file import SpoolError, SpoolFile
from actors.errors import PublishError
from actors.logic.entry import Entry, Outgoing, entry_of


class SpoolStore:
    """A `Store`. Exchanges there are none: a message for one is refused."""

    def __init__(self, path: Path) -> None:
        self._file = SpoolFile(path)

    def properties(self, given: Mapping[str, Any]) -> Entry:
        """Of AMQP's properties those that a spool has a place for."""
        entry = entry_of(given)
        entry.check()
        entry.headers_as_json()
        return entry

    def send(self, messages: Sequence[Outgoing], timeout: float) -> None:
        """All for one queue are stored, or none."""
        for message in messages:
            if message.exchange:
                message.outcome = f"a spool has no exchange {message.exchange!r}"
            try:
                message.properties._replace(body=message.body).headers_as_json()
            except ValueError as error:  # with its body it is too large, and no neighbour suffers
                message.outcome = str(error)
        left = [message for message in messages if message.outcome is None]
        for queue, group in groupby(left, key=lambda message: message.routing_key):
            together = list(group)
            try:
                entries = [m.properties._replace(body=m.body) for m in together]
                self._file.put(queue, entries, timeout)
            except SpoolError as error:
                raise PublishError(str(error)) from error
            for message in together:
                message.outcome = ""

    def close(self) -> None:
        self._file.close()
