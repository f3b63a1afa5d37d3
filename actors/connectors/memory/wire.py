"""Messages of the world in memory, and the bytes in which a connection would bring them."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from actors.api.connector import connector_of
from actors.api.options import Actions
from actors.logic.jobs.job import Claimed
from actors.logic.messages.records import pack
from actors.logic.settlement.attempts import proven
from actors.roles.port import Fetched


@dataclass(eq=False)
class Stored:
    """One message in the world, and what became of it."""

    body: bytes
    id: str
    headers: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0  #: hand-outs that its store has counted
    redelivered: bool = False
    handed_out: int = 0  #: times that a handler had it
    actions: list[Actions] = field(default_factory=list)  #: what was done, in order
    reason: str = ""
    exchange: str = ""  #: of a message that a handler has put
    routing_key: str = ""
    claim: Claimed | None = None  #: of a job
    reply_to: str = ""  #: of a job whose caller waits, over a broker


class Sent:
    """One message that was delivered, and its history so far."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    @property
    def actions(self) -> list[Actions]:
        """What was done with it, in order; a retry is a REQUEUE that waits outside the queue."""
        return list(self._stored.actions)

    @property
    def attempts(self) -> int:
        """How often a handler had it."""
        return self._stored.handed_out

    @property
    def reason(self) -> str:
        """Why it was retried or dead-lettered."""
        return self._stored.reason

    @property
    def dead(self) -> bool:
        """Whether it is a dead letter."""
        return Actions.DEAD_LETTER in self._stored.actions

    @property
    def id(self) -> str:
        return self._stored.id

    @property
    def body(self) -> bytes:
        return self._stored.body

    @property
    def headers(self) -> dict[str, Any]:
        return dict(self._stored.headers)

    @property
    def exchange(self) -> str:
        """Of a message that a handler has put."""
        return self._stored.exchange

    @property
    def routing_key(self) -> str:
        """Of a message that a handler has put; without an exchange the name of a queue."""
        return self._stored.routing_key

    def __repr__(self) -> str:
        return f"<Sent {self.id} {[str(action) for action in self.actions]}>"


class Wire:
    """The messages that one kind of connection brings, and the counts that its store keeps."""

    def __init__(self, kind: str) -> None:
        self._frames = connector_of(kind).frames

    @property
    def counts(self) -> bool:
        """Whether each hand-out is counted; a classic queue only knows that there was one."""
        return not self._frames

    def delivery(self, queue: str, tag: int, message: Stored) -> tuple[bytes, int]:
        """The bytes, and how often it was handed out before as far as the connection can tell."""
        if self._frames:
            return _frames(queue, tag, message), int(message.redelivered)
        headers = json.dumps(message.headers).encode() if message.headers else b""
        attempts = message.attempts
        return pack(message.id, queue, headers, 0, 0.0, attempts, message.body), attempts


def fetched(queue: str, epoch: int, first: int, deliveries: Iterable[tuple[bytes, int]]) -> Fetched:
    """A chunk of deliveries, each with the attempts before it."""
    raws, attempts = zip(*deliveries, strict=True)
    ends = array("I", accumulate(map(len, raws))).tobytes()
    flagged = tuple((index, before) for index, before in enumerate(attempts) if before)
    return Fetched(queue, epoch, first, b"".join(raws), ends, flagged)


def _frames(queue: str, tag: int, message: Stored) -> bytes:
    from pika import BasicProperties, frame, spec  # 15 ms that a spool need not pay

    own = message.id.encode()
    counted = proven(message.attempts, queue, own, message.body) if message.attempts else {}
    headers = {**message.headers, **counted} or None
    properties = BasicProperties(
        headers=headers, message_id=message.id, reply_to=message.reply_to or None
    )
    deliver = spec.Basic.Deliver("callboard", tag, message.redelivered, "", queue)
    frames = [frame.Method(1, deliver), frame.Header(1, len(message.body), properties)]
    if message.body:
        frames.append(frame.Body(1, message.body))
    return b"".join(one.marshal() for one in frames)
