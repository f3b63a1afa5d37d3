"""Limits of a route, how its numbers depend on each other, where its streams are, and names for
what has none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from urllib.parse import urlsplit

MAX_PREFETCH = 65535  #: AMQP counts it in 16 bits
MAX_IN_FLIGHT = 64

#: Why a queue of this type is refused, and what to do.
IS_A_STREAM = (
    "is a stream, and Callboard consumes classic and quorum queues: bind one of those to the"
    " exchange that feeds the stream, and name it in the route"
)


@dataclass(frozen=True, slots=True)
class Prefetch:
    """The amount of a route that is on its way at once."""

    count: int  #: unsettled deliveries, for each queue
    bulk_size: int  #: deliveries; never more than can be unsettled
    in_flight: int  #: bulks at once in a process
    enough: int  #: the prefetch that gives each handler a bulk in hand and one waiting


def prefetch_of(
    bulk_size: int, concurrency: int, in_flight: int | None, prefetch: int | None, is_async: bool
) -> Prefetch:
    """Settle what was not declared (None) by what was."""
    enough = 2 * bulk_size * concurrency * (in_flight or 1)
    prefetch = prefetch or min(MAX_PREFETCH, max(128, enough))
    bulk_size = min(bulk_size, prefetch)
    if in_flight is None:
        filled = prefetch // (bulk_size * concurrency)
        in_flight = min(MAX_IN_FLIGHT, max(1, filled)) if is_async else 1
    return Prefetch(prefetch, bulk_size, in_flight, enough)


def stream_url(base: str, path: str) -> str:
    """The URL of an event stream: a route's path below that of its connection, with the
    parameters of both. A route that is a URL itself is taken as it is."""
    if path.partition("://")[0] in ("http", "https"):
        return path
    parts = urlsplit(base)
    below, _, query = path.partition("?")
    below = below.lstrip("/")
    whole = f"{parts.path.rstrip('/')}/{below}" if below else parts.path or "/"
    both = "&".join(filter(None, (parts.query, query)))
    return parts._replace(path=whole, query=both).geturl()


def numbered(name: str) -> Iterator[str]:
    """`name`, `name-2`, `name-3` …"""
    yield name
    yield from (f"{name}-{number}" for number in count(2))
