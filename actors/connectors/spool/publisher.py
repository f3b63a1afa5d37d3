"""A spool as the place where handlers put messages: queues by name, one write for many."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from actors.connectors.spool.file import SpoolError, SpoolFile
from actors.errors import PublishError
from actors.logic.entry import Entry, Outgoing, entry_of


class SpoolPublisher:
    """A publisher that has no exchanges: a message for one is refused."""

    def __init__(self, settings: str) -> None:
        """`settings` as `PipelinePlan.settings` has them."""
        self._file = SpoolFile(Path(json.loads(settings)["path"]))

    def put(self, queue: str, entries: Sequence[Entry], timeout: float = 5.0) -> list[str]:
        """Store all or none, in order, and return their ids. Raises `PublishError`."""
        try:
            return self._file.put(queue, entries, timeout)
        except SpoolError as error:
            raise PublishError(str(error)) from error

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
            self.put(queue, [m.properties._replace(body=m.body) for m in together], timeout)
            for message in together:
                message.outcome = ""

    def close(self) -> None:
        self._file.close()
