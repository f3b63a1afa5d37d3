"""The copy of a delivery: its queue, its id, its headers."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pika

from actors.connectors.rabbitmq.queues.retry_queues import waiting_queue
from actors.logic.consuming.frames import Delivery
from actors.logic.messages.properties import copied, identity, lasting
from actors.logic.settlement.attempts import proven, told
from actors.logic.settlement.copying import Form
from actors.roles.port import Republish

REASON_LIMIT = 2000  # characters; headers must fit into one frame


class RawProperties(pika.BasicProperties):
    """Properties that are encoded already."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self.raw = raw

    def encode(self) -> list[bytes]:
        return [self.raw]


def target(request: Republish) -> str:
    """The queue that a copy goes to."""
    return f"{request.queue}.dead" if request.dead else waiting_queue(request.queue, request.delay)


def headers(request: Republish, message_id: bytes, body: bytes) -> dict[str, str | int]:
    """The headers of a copy, which tell its fate."""
    if not request.dead:
        return proven(request.attempts, request.queue, message_id, body)
    notes = {
        "x-callboard-error": request.error[:REASON_LIMIT],
        "x-callboard-reason": request.reason[:REASON_LIMIT],
        "x-callboard-route": request.route,
        "x-callboard-queue": request.queue,
        "x-callboard-time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    if request.lacking:
        notes["x-callboard-left-out"] = request.lacking[:REASON_LIMIT]
    return told(request.attempts) | notes


def properties(request: Republish, delivery: Delivery, room: int) -> bytes:
    """The properties of a copy; raises ValueError where they do not fit into `room` bytes.

    A retry is whole or not made; of a dead letter what does not fit is left out, and named.
    """
    raw, body = delivery.properties, delivery.body
    own = identity(raw) or message_id(request, delivery).encode()
    if request.dead:
        bare = request.form is not Form.WHOLE
        return copied(raw, headers(request, own, body), own, room, bare=bare)
    made = copied(raw, headers(request, own, body), own)
    if len(made) > room:
        raise ValueError(f"{len(made)} bytes of headers do not fit into a frame")
    return made


def message_id(request: Republish, delivery: Delivery) -> str:
    """The same for the same content however often it is delivered."""
    content = hashlib.blake2b(request.queue.encode(), digest_size=16)
    content.update(lasting(delivery.properties))
    content.update(delivery.body)
    return content.hexdigest()
