"""The messages that callers get: the reply, and before it that their job has begun."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pika

from actors.connectors.rabbitmq.message import decode_properties
from actors.errors import InvalidMessage
from actors.logic.consuming.frames import Delivery
from actors.logic.jobs.dialects import CALLER, is_celery, result_of
from actors.logic.jobs.job import Progress, killed
from actors.logic.messages.compression import GZIP, compressed, is_worth
from actors.roles.port import Republish

_DIRECT = "amq.rabbitmq.reply-to."


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to a caller."""

    to: str  #: the queue
    body: bytes
    properties: pika.BasicProperties

    @property
    def is_mandatory(self) -> bool:
        """Whether the broker is to say that the caller is gone. RabbitMQ 3.10 says so of a direct
        reply that it delivered, and newer ones never do."""
        return not self.to.startswith(_DIRECT)


def reply_to(request: Republish) -> Reply | None:
    """The reply that ends a call; None: nobody waits for it."""
    answer = request.answer or killed(request.error, request.reason, is_stopping=False)
    asked = _asked(answer.request or (Delivery(request.raw).properties if request.raw else b""))
    if asked is None:
        return None
    headers = asked.headers or {}
    body, kind = result_of(headers, answer.outcome, answer.error)
    return _reply(asked, body, kind, worker=answer.worker)


def notice_to(request: bytes, worker: str, progress: Progress | None) -> Reply | None:
    """The word that a job has begun, or how far it is; None: nobody wants it."""
    asked = _asked(request)
    if asked is None:
        return None
    if progress is None:
        return _reply(asked, b"{}", "begun", worker=worker)
    body = json.dumps({"progress": progress.progress, "note": progress.note}).encode()
    return _reply(asked, body, "progress", worker=worker)


def _asked(properties: bytes) -> Any:
    """Properties that name a queue for the reply."""
    try:
        asked = decode_properties(properties) if properties else None
    except InvalidMessage:
        return None
    return asked if asked is not None and asked.reply_to else None


def _reply(asked: Any, body: bytes, kind: str, *, worker: str) -> Reply:
    headers = asked.headers or {}
    properties = pika.BasicProperties(
        content_type="application/json",
        correlation_id=asked.correlation_id or asked.message_id,
        delivery_mode=1,  # it is as durable as whoever waits
    )
    if is_celery(headers):
        properties.content_encoding = "utf-8"
    else:
        properties.type, properties.message_id = kind, asked.message_id
        properties.headers = {"x-callboard-worker": worker}
    if CALLER in headers and is_worth(body):
        body, properties.content_encoding = compressed(body), GZIP
    return Reply(asked.reply_to, body, properties)
