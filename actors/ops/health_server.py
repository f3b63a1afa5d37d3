"""A small HTTP server for probes: it only reads, and no client can hold it up.

One thread, a bounded number of connections, one short request on each. Whoever is slow or
idle is let go: after a few seconds, and at once where somebody else needs the room.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

from actors.errors import ConfigurationError
from actors.log import own_logger
from actors.usercode.loops import ThreadLoop

HEAD = 8192  #: bytes of a request, which has no body
SECONDS = 5.0  #: for a request and its answer
CONNECTIONS = 64  #: at once; one more ends the oldest
BACKLOG = 512  #: that wait to be let in

TEXT = "text/plain; charset=utf-8"

logger = own_logger("actors.system")


class Answer(NamedTuple):
    """The answer to a request."""

    status: HTTPStatus
    body: bytes
    type: str = TEXT


#: From the path of a request to its answer; None: there is no such path.
Respond = Callable[[str], Answer | None]


class ProbeServer:
    """Answers GET and HEAD on an address until it is closed.

    Raises `ConfigurationError` where the address cannot be had.
    """

    def __init__(self, address: str, respond: Respond) -> None:
        self._respond = respond
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}  # the oldest first
        self._listener = _bound(address)
        host, port = self._listener.getsockname()[:2]
        logger.info("health: answers on %s port %d", host, port)
        self._loop = ThreadLoop("health")
        self._loop.post(self._begin)

    def close(self) -> None:
        self._loop.close()
        self._listener.close()

    def _begin(self) -> None:
        self._serving = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(
            self._accept, sock=self._listener, limit=HEAD, backlog=BACKLOG
        )
        async with server:
            await server.serve_forever()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS:
            oldest = next(iter(self._open))
            self._end(oldest)
        task = asyncio.ensure_future(self._talk(reader, writer))
        self._open[writer] = task
        task.add_done_callback(lambda _: self._end(writer))

    def _end(self, writer: asyncio.StreamWriter) -> None:
        """What the client did not say or take by now, it does not any more."""
        self._open.pop(writer, None)
        writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(TimeoutError, asyncio.IncompleteReadError, OSError):
            async with asyncio.timeout(SECONDS):
                writer.write(await self._answered(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    async def _answered(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(_plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        line = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(line) != 3 or not line[2].startswith("HTTP/1."):
            return _response(_plain(HTTPStatus.BAD_REQUEST))
        method, target, _ = line
        if method not in ("GET", "HEAD"):
            return _response(_plain(HTTPStatus.METHOD_NOT_ALLOWED), "Allow: GET, HEAD")
        answer = self._respond(target.partition("?")[0]) or _plain(HTTPStatus.NOT_FOUND)
        whole = _response(answer)
        return whole if method == "GET" else whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def _plain(status: HTTPStatus) -> Answer:
    return Answer(status, status.phrase.lower().encode() + b"\n")


def _response(answer: Answer, *headers: str) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {answer.type}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *headers,
    )
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, place = found[0]
        return socket.create_server(place[:2], family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise ConfigurationError(f"--health {address}: {error.strerror}") from None
    except OSError as error:  # whose own text says the address a second time
        raise ConfigurationError(f"--health {address}: {os.strerror(error.errno or 0)}") from None
