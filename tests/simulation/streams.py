"""A model of a server of event streams; what reads it is the real client, without sockets.

The server knows the last events of each stream, repeats some, ends a stream in the middle
of an event, or falls silent. The client's loop, its files and its clock are replaced.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import httpx

from actors.connectors.spool.file import SpoolError
from actors.connectors.sse import connection as sse
from actors.connectors.sse import source as sse_source
from actors.connectors.sse import thread as sse_thread
from actors.connectors.sse.http import StreamLost, Target
from actors.errors import Fault
from actors.logic.messages.records import unpack
from actors.logic.settlement.copying import Form
from actors.plan.plan import PipelinePlan
from actors.roles.port import Republish
from tests.simulation.peer import Peer
from tests.simulation.scene import URL
from tests.simulation.streamclient import IDLE, Bell, StreamsClient


class Streams(Peer):
    """Streams by queue: each a list of events, of which the number is the id."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.events: dict[str, list[int]] = {queue: [] for queue in self.scene.queues}
        self.checkpoints: dict[str, str] = {}  #: on the disk, by stream
        self.storing = True  #: whether dead letters and checkpoints can be written
        self._responses: list[Response] = []
        self._forgotten: set[int] = set()
        self._history = self.random.choice((5, 20, 1000))
        self.bell = Bell()

    @contextmanager
    def begin(self) -> Iterator[None]:
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now)
        with (
            mock.patch.object(sse, "time", clock),
            mock.patch.object(sse_source, "time", clock),
            mock.patch.object(sse, "store_event_as_dead_letter", self._store_dead_letters),
            mock.patch.object(sse_thread, "open_stream", self._open),
        ):
            yield

    def client(self, plan: PipelinePlan) -> StreamsClient:
        return StreamsClient(self, plan)

    def put(self, number: int, key: str, queue: str) -> None:
        self.events[queue].append(number)
        for response in self._responses:
            if response.queue == queue:
                response.feed(number)

    def left(self) -> list[int]:
        ends = self.witness.ends
        numbers = (number for events in self.events.values() for number in events)
        return [n for n in numbers if not ends[n] and n not in self._forgotten]

    # ── troubles ──────────────────────────────────────────────────────────────

    def suffer(self, kind: str) -> None:
        for response in list(self._responses):
            if kind == "half open":
                response.fall_silent()
            else:
                response.end(httpx.ReadError(kind), self.random.random())

    def give_up(self) -> None:
        self.suffer("reset")

    def round(self) -> None:
        super().round()
        self.storing = not self.faults.strikes("refused")

    def rest(self) -> None:
        super().rest()
        self.storing = True

    # ── what the client asks for ──────────────────────────────────────────────

    async def _open(self, http: Any, target: Target, last_id: str) -> Response:
        if not self.reachable:
            raise StreamLost("answered 503", Fault.UNREACHABLE, 1.0)
        queue = target.url.removeprefix(URL)
        events = self.events[queue]
        known = max(0, len(events) - self._history)
        after = int(last_id) if last_id else 0
        begin = next((i for i, number in enumerate(events) if number > after), len(events))
        self._forgotten.update(events[begin:known])
        begin = max(begin, known)
        if last_id and self.faults.strikes("repeat"):
            begin = max(known, begin - 2)
        response = Response(self, queue)
        self._responses.append(response)
        for number in events[begin:]:
            response.feed(number)
        return response

    def closed(self, response: Response) -> None:
        if response in self._responses:
            self._responses.remove(response)

    def _store_dead_letters(self, spool: Any, request: Republish) -> None:
        if not self.storing:
            raise SpoolError("disk full")
        number = int(unpack(request.raw).body)
        if self.witness.stories[number].unfit and request.form is Form.WHOLE:
            raise ValueError("no such letter can be written")
        self.witness.ends[number] += 1

    def write(self, ids: dict[str, str]) -> None:
        """Checkpoints reach the disk."""
        if not self.storing:
            raise OSError(28, "No space left on device")
        for stream, id in ids.items():
            queue = stream.removeprefix(URL)
            passed = [n for n in self.events[queue] if n <= int(id or 0)]
            open_ = [n for n in passed if not self.witness.ends[n] and n not in self._forgotten]
            self.witness.holds(not open_, f"I9: the checkpoint {id} passes {open_}")
        self.checkpoints.update(ids)


class Response:
    """The body of an answer that does not end."""

    def __init__(self, server: Streams, queue: str) -> None:
        self.queue = queue
        self._server = server
        self._ready = asyncio.Event()
        self._chunks: deque[bytes] = deque()
        self._error: Exception | None = None
        self._silent = False

    def feed(self, number: int) -> None:
        key = self._server.witness.stories[number].key
        self._say(b"id: %d\ndata: %d\nevent: %s\n\n" % (number, number, key.encode()))

    def _say(self, what: bytes) -> None:
        if not self._silent:
            self._chunks.append(what)
            self._server.at(self._server.now + self._server.lag(), self._wake)

    def end(self, error: Exception, share: float) -> None:
        """It breaks off, perhaps in the middle of what was to be read next."""
        if self._silent:
            return
        unread = b"".join(self._chunks)
        self._chunks.clear()
        self._say(unread[: int(share * len(unread))])
        self._error = error
        self._wake()
        self._silent = True

    def fall_silent(self) -> None:
        if not self._silent:
            self._silent = True
            self._chunks.clear()
            self._server.at(self._server.now + IDLE, self._time_out)

    def _time_out(self) -> None:
        self._error = httpx.ReadTimeout("")
        self._wake()

    def _wake(self) -> None:
        self._ready.set()
        self._server.bell.ring()

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._chunks:
                yield self._chunks.popleft()
            if self._error:
                raise self._error

    async def aclose(self) -> None:
        self._server.closed(self)
