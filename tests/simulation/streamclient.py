"""The real client of event streams, its thread, its file and its spool the model's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from actors.connectors.sse.connection import SSEClient
from actors.connectors.sse.http import StreamSettings
from actors.connectors.sse.source import Source
from actors.connectors.sse.thread import StreamThread
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import Opened, Republish, Republished
from actors.usercode.loops import VirtualLoop, finish
from tests.simulation.scene import URL

if TYPE_CHECKING:
    from tests.simulation.streams import Streams

#: Seconds without a byte after which a stream is dead.
IDLE = 30.0


class InlineThread(StreamThread):
    """The thread of the streams on its owner's, in virtual time."""

    def __init__(self, server: Streams) -> None:
        self._loop = self.loop = VirtualLoop(lambda: server.now)
        self._http: Any = None
        self._bell: Any = server.bell
        self._idle_timeout = IDLE
        self._news = deque()
        self._tasks = {}
        self._gates = {}

    def turn(self) -> None:
        self.loop.run_forever()

    def close(self) -> None:
        finish(self.loop)

    def _call(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.loop.call_soon(call, *arguments)
        self._bell.ring()


class Checkpoints:
    """A `CheckpointFile` on the server's side of the play."""

    def __init__(self, server: Streams) -> None:
        self.get = server.checkpoints.get
        self.write = server.write

    def close(self) -> None:
        """Nothing is locked."""


class StreamsClient(SSEClient):
    """The real client; its thread, its file and its spool are the model's."""

    _thread: InlineThread | None

    def __init__(self, server: Streams, plan: PipelinePlan) -> None:
        self.receipts = server.witness.connected()
        self._server = server
        self._settings = StreamSettings(URL)
        self._name = plan.name
        self._path = Path("checkpoint")
        self._spool: Any = SimpleNamespace(close=lambda: None)
        self._bell: Any = server.bell
        self._checkpoint: Any = None
        self._thread = None
        self._sources = {}
        self._attempts = count(1)
        self._reports = []
        self._next_write = 0.0
        self._storable = True

    def open(self) -> None:
        self._checkpoint = Checkpoints(self._server)
        self._thread = InlineThread(self._server)
        self._report(Opened("memory"))

    def deadline(self) -> float | None:
        if self._bell.rung:
            return self._server.now
        times = [super().deadline(), self._thread.loop.due if self._thread else None]
        return min((time for time in times if time is not None), default=None)

    def turn(self, now: float) -> list[Any]:
        if self._thread:
            self._thread.turn()
        return super().turn(now)

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        witness = self._server.witness
        witness.settled(self.receipts, epoch, flush)
        for position in (p for first, last in flush.acked for p in range(first, last + 1)):
            witness.ended(self.receipts, epoch, position, "ack")
        for position in flush.rejected:
            witness.ended(self.receipts, epoch, position, "reject")
        super().settle(queue, epoch, flush)

    def republish(self, request: Republish) -> None:
        self._server.witness.on_republished(self.receipts, request)
        reports = len(self._reports)
        super().republish(request)
        if any(isinstance(report, Republished) for report in self._reports[reports:]):
            self._server.witness.copied(self.receipts, request)

    def close(self) -> None:
        """The process is gone, and nothing more is written."""
        if self._thread:
            self._thread.close()
            self._thread = None

    def _source(self, queue: str) -> Source:
        source = super()._source(queue)
        source._random = Random(self._server.random.random())
        return source


class Bell:
    """Rung where the owner has something to do."""

    def __init__(self) -> None:
        self.rung = False

    def ring(self) -> None:
        self.rung = True

    def hush(self) -> None:
        self.rung = False
