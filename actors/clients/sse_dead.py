"""Dead letters of event streams lie in the local spool: a stream takes nothing back."""

from __future__ import annotations

import json
import os
import time

from actors.clients import Move
from actors.clients.spoolfile import SpoolFile
from actors.clients.spoolschema import DEAD
from actors.logic.records import unpack

_TIMEOUT = 1.0  #: seconds to wait for the spool's lock


def bury(spool: SpoolFile, move: Move) -> None:
    """Store `move.raw` as a dead letter of its queue, on the disk when it returns.

    Raises `ConfigurationError` and `SpoolError`.
    """
    record = unpack(move.raw)
    headers = json.dumps(record.headers).encode()
    with spool.transaction(_TIMEOUT) as connection:
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM message").fetchone()
        connection.execute(
            "INSERT INTO message (seq, queue, state, priority, attempts, died, reason, error,"
            " route) VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?)",
            (last + 1, move.queue, DEAD, move.attempts, time.time(),
             move.reason, move.error, move.route),
        )  # fmt: skip
        connection.execute(
            "INSERT INTO content VALUES (?, ?, ?, ?, ?)",
            (last + 1, record.id or os.urandom(16).hex(), headers, record.enqueued, record.body),
        )
