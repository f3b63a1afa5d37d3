"""A spool as the place where handlers put messages: queues by name, one write for many."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from actors.connectors.spool.file import SpoolError, SpoolFile
from actors.errors import PublishError
from actors.logic.messages.entry import Entry, OutgoingMessage, check_size, entry_of


class SpoolPublisher:
    """A publisher that has no exchanges: a message for one is refused."""

    def __init__(self, settings: str) -> None:
        """`settings` as `PipelinePlan.settings` has them."""
        self._file = SpoolFile(Path(json.loads(settings)["path"]))

    def properties(self, given: Mapping[str, Any]) -> tuple[Entry, str]:
        """Those of AMQP's properties that a spool has a place for, and the message's id."""
        entry = entry_of(given)
        entry.check()
        id = entry.id or os.urandom(16).hex()
        return entry._replace(id=id, encoded=entry.headers_as_json()), id

    def another(self, properties: Entry) -> tuple[Entry, str]:
        id = os.urandom(16).hex()
        return properties._replace(id=id), id

    def __str__(self) -> str:
        return f"spool://{self._file.path}"

    def send(
        self, messages: Sequence[OutgoingMessage], timeout: float, *, is_patient: bool = True
    ) -> None:
        """Stores all messages for one queue, or none. Raises `PublishError`."""
        for message in messages:
            if message.exchange:
                message.outcome = f"a spool has no exchange {message.exchange!r}"
            try:
                check_size(len(message.body) + len(message.properties.encoded))
            except ValueError as error:  # with its body it is too large, and no neighbour suffers
                message.outcome = str(error)
        left = [message for message in messages if message.outcome is None]
        for queue, group in groupby(left, key=lambda message: message.routing_key):
            together = list(group)
            try:
                self._file.put(queue, [_entry(message) for message in together], timeout)
            except SpoolError as error:
                raise PublishError(str(error)) from error
            for message in together:
                message.outcome = ""

    def close(self) -> None:
        self._file.close()


def _entry(message: OutgoingMessage) -> Entry:
    entry: Entry = message.properties
    return entry._replace(body=message.body, delay=message.delay)
