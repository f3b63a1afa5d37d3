"""Dead letters in the local spool: of what has no place for them."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from actors.connectors.rabbitmq.message import decode_properties
from actors.connectors.spool.file import SpoolFile
from actors.connectors.spool.schema import DEAD, next_seq
from actors.errors import InvalidMessage
from actors.logic.consuming.frames import Delivery
from actors.logic.messages.plain import encodable
from actors.logic.messages.records import unpack
from actors.logic.settlement.attempts import ATTEMPTS_MAX
from actors.logic.settlement.copying import Form
from actors.roles.port import Republish

_TIMEOUT = 1.0  #: seconds to wait for the spool's lock


def store_event_as_dead_letter(spool: SpoolFile, request: Republish) -> None:
    """Store an event as a dead letter of its stream, on the disk when it returns.

    Raises `ConfigurationError` and `SpoolError`, as does the other.
    """
    record = unpack(request.raw)
    headers = record.headers if request.form is Form.WHOLE else {}
    _store_dead_letters(spool, request, record.id, headers, record.enqueued, record.body)


def store_delivery_as_dead_letter(spool: SpoolFile, request: Republish) -> None:
    """The same of a broker's delivery."""
    delivery = Delivery(request.raw)
    id, headers = "", None
    try:
        properties = decode_properties(delivery.properties)
        id, headers = properties.message_id or "", dict(properties.headers or {})
        json.dumps(headers, default=str)
    except (InvalidMessage, TypeError, ValueError, RecursionError):
        headers = {"x-callboard-properties": delivery.properties.hex()}  # the bytes are kept
    _store_dead_letters(spool, request, id, headers, time.time(), delivery.body)


def _store_dead_letters(
    spool: SpoolFile,
    request: Republish,
    id: str,
    headers: dict[str, Any],
    enqueued: float,
    body: bytes,
) -> None:
    told = json.dumps(headers, default=str).encode()
    reason = f"{request.reason} ({request.lacking})" if request.lacking else request.reason
    with spool.transaction(_TIMEOUT) as connection:
        seq = next_seq(connection)
        connection.execute(
            "INSERT INTO message (seq, queue, state, priority, attempts, died, reason, error,"
            " route) VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?)",
            (seq, encodable(request.queue), DEAD, min(request.attempts, ATTEMPTS_MAX),
            time.time(),
             *map(encodable, (reason, request.error, request.route))),
        )  # fmt: skip
        connection.execute(
            "INSERT INTO content VALUES (?, ?, ?, ?, ?)",
            (seq, encodable(str(id)) or os.urandom(16).hex(), told, enqueued, body),
        )
