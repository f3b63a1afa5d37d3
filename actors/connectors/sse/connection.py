"""Server-Sent Events: streams over HTTP, kept and checkpointed until they are settled."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from actors.connectors.spool.dead_letters import store_event_as_dead_letter
from actors.connectors.spool.file import SpoolFile
from actors.connectors.sse.checkpoint import CheckpointFile
from actors.connectors.sse.http import StreamSettings, http_client
from actors.connectors.sse.source import Source
from actors.connectors.sse.thread import Bell, StreamThread
from actors.errors import CallboardError, ConfigurationError, Fault
from actors.log import own_logger
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import (
    Depth,
    Jobless,
    Lost,
    Opened,
    Patient,
    Republish,
    Republished,
    RepublishFailed,
    Stopped,
)

log = own_logger("actors.sse")

#: Seconds between two writes of the checkpoint: what a power cut or a kill may repeat.
CHECKPOINT_INTERVAL = 0.25

#: Seconds after which a checkpoint is tried again that could not be written.
WRITE_AGAIN = 5.0


class SSEClient(Patient, Jobless):
    """The `ConnectionClient` of event streams; a queue is a path below the connection's URL.

    There is no broker to give events back to: they are kept here until they are settled,
    and come again under new positions where they were not. Over restarts of the process
    the checkpoint, and the server's memory, keep them.
    """

    def __init__(self, plan: PipelinePlan) -> None:
        self._settings = StreamSettings(**json.loads(plan.settings))
        self._name = plan.name
        state = Path(plan.state_dir)
        default = state / f"{quote(plan.name, safe='')}.checkpoint"
        self._path = Path(self._settings.checkpoint or default)
        self._spool = SpoolFile(state / "spool.db")
        self._bell = Bell()
        self._checkpoint: CheckpointFile | None = None
        self._thread: StreamThread | None = None
        self._sources: dict[str, Source] = {}
        self._attempts = itertools.count(1)
        self._reports: list[Any] = []
        self._next_write = 0.0
        self._storable = True

    # ── the port of a stage ────────────────────────────────────────────────────

    def fileno(self) -> int:
        return self._bell.fileno()

    def deadline(self) -> float | None:
        due = [source.due for source in self._sources.values() if source.due is not None]
        if self._unwritten():
            due.append(self._next_write)
        return min(due, default=None)

    def turn(self, now: float) -> list[Any]:
        self._bell.hush()
        if self._thread:
            self._read_news(self._thread, now)
            if now >= self._next_write:
                self._write(now)  # before the streams look whether they may read on
            for source in self._sources.values():
                self._reports += source.turn(now, self._thread, may_read=self._storable)
        reports, self._reports = self._reports, []
        return reports

    def close(self) -> None:
        self._disconnect()
        self._bell.close()

    # ── the port of a connection ───────────────────────────────────────────────

    def open(self) -> None:
        try:
            http = http_client(self._settings)
            self._checkpoint = CheckpointFile(self._path)
        except ConfigurationError as error:
            self._report(Lost(str(error), Fault.REFUSED))
        else:
            self._thread = StreamThread(http, self._bell, self._settings.idle_timeout)
            self._report(Opened(urlsplit(self._settings.url).hostname or ""))

    def consume(self, queue: str, epoch: int, window: int, alone: int = 0) -> None:
        if self._thread:
            if queue not in self._sources:
                self._sources[queue] = self._source(queue)
            self._sources[queue].begin(self._thread, epoch, window)
            self._bell.ring()

    def cancel(self, queue: str, epoch: int) -> None:
        if source := self._of(queue, epoch):
            source.stop()
            self._report(Stopped(queue, epoch))

    def resume(self, queue: str, epoch: int) -> None:
        source = self._of(queue, epoch)
        if source and self._thread:
            source.resume(self._thread)
            self._bell.ring()

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        if source := self._of(queue, epoch):
            buffer = source.buffer
            for first, last in flush.acked:
                buffer.settle(epoch, first, last)
            for position in flush.rejected:
                buffer.settle(epoch, position, position)
            attempts = dict(flush.told)
            for position in flush.failed:
                buffer.give_back(epoch, position, failed=True, attempts=attempts.get(position))
            for position in flush.returned:
                buffer.give_back(epoch, position, failed=False, attempts=attempts.get(position))
            self._bell.ring()

    def republish(self, request: Republish) -> None:
        source = self._of(request.queue, request.epoch)
        kept = source.buffer.held(request.epoch, request.position) if source else None
        if not source or not kept:
            return
        if not request.dead:
            until = time.monotonic() + request.delay
            source.buffer.postpone(request.epoch, request.position, until, request.attempts)
            self._report(Republished(request.token))
            return
        try:
            attempts = max(request.attempts, kept.attempts + 1)
            store_event_as_dead_letter(
                self._spool, request._replace(attempts=attempts, raw=kept.raw)
            )
        except CallboardError as error:
            self._report(RepublishFailed(request.token, str(error)))
        else:
            self._report(Republished(request.token))

    def measure(self, queue: str) -> None:
        source = self._sources.get(queue)
        self._report(Depth(queue, source.buffer.ready + source.buffer.delayed if source else 0))

    def shut(self) -> None:
        self._disconnect()
        self._report(Lost(""))

    # ── inside ─────────────────────────────────────────────────────────────────

    def _report(self, report: Any) -> None:
        self._reports.append(report)
        self._bell.ring()

    def _of(self, queue: str, epoch: int) -> Source | None:
        """The stream of a queue, if this is its present epoch."""
        source = self._sources.get(queue)
        return source if source and source.buffer.epoch == epoch else None

    def _source(self, queue: str) -> Source:
        target = self._settings.target(queue)
        stored = self._checkpoint.get(target.key) if self._checkpoint else None
        begin = stored if stored is not None else self._settings.last_event_id or ""
        return Source(self._name, queue, target, begin, self._attempts)

    def _read_news(self, thread: StreamThread, now: float) -> None:
        by_attempt = {source.attempt: source for source in self._sources.values()}
        for attempt, what in thread.news():
            if source := by_attempt.get(attempt):
                source.on(what, now, thread)

    def _unwritten(self) -> dict[str, str]:
        """Checkpoints that have moved since they were written."""
        if not self._checkpoint:
            return {}
        ids = {source.target.key: source.buffer.checkpoint.id for source in self._sources.values()}
        return {key: id for key, id in ids.items() if id != (self._checkpoint.get(key) or "")}

    def _write(self, now: float) -> None:
        ids = self._unwritten()
        if not self._checkpoint or not ids:
            return
        self._next_write = now + CHECKPOINT_INTERVAL
        try:
            self._checkpoint.write(ids)
        except OSError as error:
            # Nothing more is read, or what a restart repeats would grow without end.
            log.error("checkpoint %s cannot be written: %s", self._path, error.strerror)
            self._next_write = now + WRITE_AGAIN
            self._storable = False
        else:
            self._storable = True

    def _disconnect(self) -> None:
        if self._thread:
            self._thread.close()
            self._thread = None
        self._write(time.monotonic())
        if self._checkpoint:
            self._checkpoint.close()
            self._checkpoint = None
        self._spool.close()
