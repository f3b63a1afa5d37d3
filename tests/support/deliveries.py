"""Deliveries made by hand: chunks of short bodies, and what bulks made of them hold."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from pika import BasicProperties, frame
from pika import spec as pika_spec

from actors.connectors.rabbitmq.publishing.copies import RawProperties
from actors.logic.bulks.bulk import Chunk, Draft, Slice
from actors.logic.bulks.route_queue import RouteQueue

spec: Any = pika_spec

#: (epoch, position) of a delivery.
Receipt = tuple[int, int]


def chunk(
    bodies: Sequence[bytes] | int,
    *,
    number: int = 1,
    queue: str = "q",
    epoch: int = 1,
    first: int = 1,
    attempts: Mapping[int, int] | None = None,
) -> Chunk:
    """A chunk of these bodies, or of so many of one byte each."""
    if isinstance(bodies, int):
        bodies = [b"."] * bodies
    ends = array("I", accumulate(map(len, bodies)))
    return Chunk(number, queue, epoch, first, b"".join(bodies), ends, dict(attempts or {}))


def delivery(body: bytes, tag: int = 1, headers: dict[str, Any] | None = None) -> bytes:
    """As RabbitMQ sends it."""
    return framed(body, BasicProperties(headers=headers), tag > 1, tag)


def framed(body: bytes, properties: Any, redelivered: bool, tag: int = 1) -> bytes:
    """The same with these properties, or with these bytes in their place."""
    header = frame.Header(1, len(body), properties)
    if isinstance(properties, bytes):
        header = frame.Header(1, len(body), RawProperties(properties))
    frames = [
        frame.Method(1, spec.Basic.Deliver("callboard", tag, redelivered, "", "q")),
        header,
        frame.Body(1, body),
    ]
    return b"".join(each.marshal() for each in frames)


def whole(chunk: Chunk) -> Slice:
    """All of a chunk."""
    return Slice(chunk, 0, len(chunk.ends))


def one(chunk: Chunk, index: int) -> Slice:
    return Slice(chunk, index, index + 1)


def receipts(draft: Draft) -> list[Receipt]:
    """What a bulk holds, in order."""
    return [(chunk.epoch, chunk.first + index) for chunk, index in draft.deliveries()]


def positions(draft: Draft | None) -> list[int]:
    """What a bulk of one epoch holds, in order; of no bulk: nothing."""
    return [position for _, position in receipts(draft)] if draft else []


def idle(route_queue: RouteQueue) -> bool:
    """Nothing of it waits, and nobody works on it."""
    return not (route_queue.in_hand or route_queue.has_work(0.0, flush=True))


def bodies(parts: Iterable[Slice]) -> list[bytes]:
    return [p.chunk.raw(index) for p in parts for index in range(p.start, p.stop)]
