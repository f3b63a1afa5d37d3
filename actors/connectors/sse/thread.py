"""The I/O thread of event streams: it reads and parses, and decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from actors.connectors.killswitch import stay_awake, vital_thread
from actors.connectors.sse.http import StreamLost, StreamOver, Target, lost_by, open_stream
from actors.connectors.sse.parser import EventStream, EventTooLarge, StreamEvent
from actors.errors import Fault


class Began(NamedTuple):
    """The server has answered with a stream; it is not read before `resume`."""


class Came(NamedTuple):
    """The events of one read; no more is read before `resume`."""

    events: list[StreamEvent]
    passed: str | None  #: the last id, where it came without an event
    retry: float | None  #: seconds, as the stream last said


What = Began | Came | StreamLost | StreamOver


class News(NamedTuple):
    """An event of an attempt to read a stream; the last of it is an exception."""

    attempt: int
    what: What


class Bell:
    """Readable on one side once it was rung on the other, by any thread."""

    def __init__(self) -> None:
        self._ear, self._rope = socket.socketpair()
        self._ear.setblocking(False)
        self._rope.setblocking(False)

    def fileno(self) -> int:
        return self._ear.fileno()

    def ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it is heard already; closed: nobody listens
            self._rope.send(b"\0")

    def hush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)

    def close(self) -> None:
        self._ear.close()
        self._rope.close()


class StreamThread:
    """Reads any number of streams; its methods belong to the owner's thread."""

    def __init__(self, http: httpx.AsyncClient, bell: Bell, idle_timeout: float) -> None:
        self._http = http
        self._bell = bell
        self._idle_timeout = idle_timeout
        self._news: deque[News] = deque()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._gates: dict[int, asyncio.Event] = {}
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = vital_thread(self._run, "event streams")
        self._thread.start()

    def start(self, attempt: int, not_before: float, target: Target, last_event_id: str) -> None:
        """Begin to read, not before a monotonic moment; `News` of this attempt follow."""
        self._call(self._start, attempt, not_before, target, last_event_id)

    def resume(self, attempt: int) -> None:
        """There is room: read on."""
        self._call(self._resume, attempt)

    def stop(self, attempt: int) -> None:
        """Give an attempt up; what it still had to say does not matter."""
        self._call(self._stop, attempt)

    def news(self) -> list[News]:
        news = []
        with contextlib.suppress(IndexError):
            while True:
                news.append(self._news.popleft())
        return news

    def close(self) -> None:
        """End all reading and the thread. May be called again."""
        if not self._loop.is_closed():
            self._call(self._end.set)
            self._thread.join()
            self._loop.close()

    # ── in the thread ──────────────────────────────────────────────────────────

    def _call(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)

    def _run(self) -> None:
        stay_awake(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        async with self._http:
            await self._end.wait()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def _start(self, attempt: int, not_before: float, target: Target, last_event_id: str) -> None:
        self._gates[attempt] = asyncio.Event()
        task = self._loop.create_task(self._attempt(attempt, not_before, target, last_event_id))
        self._tasks[attempt] = task
        task.add_done_callback(lambda _: self._forget(attempt))

    def _forget(self, attempt: int) -> None:
        del self._tasks[attempt], self._gates[attempt]

    def _resume(self, attempt: int) -> None:
        if gate := self._gates.get(attempt):
            gate.set()

    def _stop(self, attempt: int) -> None:
        if task := self._tasks.get(attempt):
            task.cancel()

    async def _attempt(self, attempt: int, not_before: float, target: Target, last_id: str) -> None:
        await asyncio.sleep(not_before - self._loop.time())
        try:
            await self._read(attempt, target, last_id)
        except (StreamLost, StreamOver) as end:
            self._report(attempt, end)
        except EventTooLarge as error:
            self._report(attempt, StreamLost(str(error), Fault.REFUSED))
        except Exception as error:  # whatever it is, the stream must not fall silent
            self._report(attempt, lost_by(error, self._idle_timeout))

    async def _read(self, attempt: int, target: Target, last_id: str) -> None:
        response = await open_stream(self._http, target, last_id)
        async with contextlib.aclosing(response):
            await self._report_and_wait(attempt, Began())
            stream = EventStream(last_event_id=last_id)
            async for chunk in response.aiter_raw():
                before = stream.last_event_id, stream.retry
                try:
                    events = stream.feed(chunk)
                except EventTooLarge as error:
                    await self._give(attempt, stream, error.events, before[0])
                    raise
                # An id or a `retry` may come without an event.
                if events or before != (stream.last_event_id, stream.retry):
                    await self._give(attempt, stream, events, before[0])
        raise StreamLost("the server ended the stream")

    async def _give(
        self, attempt: int, stream: EventStream, events: list[StreamEvent], id_before: str
    ) -> None:
        known = events[-1].id if events else id_before
        passed = stream.last_event_id if stream.last_event_id != known else None
        retry = stream.retry / 1000 if stream.retry is not None else None
        await self._report_and_wait(attempt, Came(events, passed, retry))

    async def _report_and_wait(self, attempt: int, what: Began | Came) -> None:
        # Shut before it is told: the owner may open it at once.
        self._gates[attempt].clear()
        self._report(attempt, what)
        await self._gates[attempt].wait()

    def _report(self, attempt: int, what: What) -> None:
        self._news.append(News(attempt, what))
        self._bell.ring()
