"""Calls over RabbitMQ: a job is a message, and its outcome a reply; nothing else is kept of it."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar

from actors.connectors.rabbitmq.amqp import Settings
from actors.connectors.rabbitmq.message import decode_properties
from actors.connectors.rabbitmq.process_queue import ProcessQueue
from actors.connectors.rabbitmq.publishing.publisher import AMQPPublisher
from actors.errors import (
    InvalidArguments,
    InvalidMessage,
    NotSupported,
    PublishError,
    UnreachableError,
)
from actors.log import own_logger
from actors.logic.consuming.frames import Delivery
from actors.logic.jobs.dialects import CALLER
from actors.logic.jobs.job import NewJob, Status
from actors.logic.jobs.jobs import EXPIRED
from actors.logic.jobs.store import JobInfo, JobStore, is_news
from actors.logic.messages.compression import GZIP, compressed, inflated, is_worth
from actors.logic.messages.entry import OutgoingMessage

T = TypeVar("T")

#: Seconds within which a job must be stored, while its broker is away.
PUT_TIMEOUT_S = 30.0
#: Messages that are published and confirmed together, at the most.
GATHERED_MAX = 1000
#: Calls that have ended and are remembered, so that their jobs may be asked for.
ENDED_MAX = 1000
#: Seconds for which the word that a job has begun may be under way.
BEGUN_S = 0.5

#: A header that only a store of jobs acts by: a queue knows who waits by `reply_to`.
_ATTEMPTS = "x-callboard-attempts"

_ENDS = (Status.FINISHED, Status.FAILED, Status.STOPPED, Status.CANCELED)

logger = own_logger("actors.caller")

Waiter = Future[JobInfo | None]


@dataclass(slots=True)
class _Call:
    """A call of this process, from its begin until it is forgotten."""

    info: JobInfo
    expires: float  #: by the monotonic clock, when a worker must have begun it
    is_sent: bool = False
    waiters: dict[Waiter, JobInfo | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Put:
    """Jobs that are to be stored together, as far as a broker can."""

    messages: Sequence[OutgoingMessage]
    ids: Sequence[str]
    done: Future[Sequence[str]]
    is_call: bool


class RabbitMQCalls:
    """An `actors.tasks.client.JobClient` of one vhost. Safe for threads.

    One thread publishes what all callers put meanwhile, and one reads the replies: calls that are
    out when the connection is lost go on with the next one.
    """

    def __init__(self, settings: str) -> None:
        """`settings` as `PipelinePlan.settings` has them."""
        self.pid = os.getpid()
        self._settings = Settings.parse(settings)
        self._publisher = AMQPPublisher(settings)
        self._calls: dict[str, _Call] = {}
        self._ended: deque[str] = deque()
        self._lock = threading.Lock()
        self._puts: SimpleQueue[_Put | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._replies: ProcessQueue | None = None
        self._store: JobStore = _CallStore(self)

    def __str__(self) -> str:
        return str(self._settings)

    # ── the client ────────────────────────────────────────────────────────────

    async def put(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        return await asyncio.wrap_future(self._submit(jobs))

    def put_sync(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        return self._submit(jobs).result()

    async def run(self, ask: Callable[[JobStore], T]) -> T:
        return ask(self._store)

    def run_sync(self, ask: Callable[[JobStore], T]) -> T:
        return ask(self._store)

    async def changed(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        waiter = self._watch(id, known)
        try:
            async with asyncio.timeout(self._patience(id, timeout)):
                return await asyncio.wrap_future(waiter)
        except TimeoutError:
            return self._look(id)
        finally:
            self._forget(id, waiter)

    def changed_sync(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        waiter = self._watch(id, known)
        try:
            return waiter.result(self._patience(id, timeout))
        except TimeoutError:
            return self._look(id)
        finally:
            self._forget(id, waiter)

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
            replies, self._replies = self._replies, None
            waiters = [waiter for call in self._calls.values() for waiter in call.waiters]
            self._calls.clear()
        for waiter in waiters:
            waiter.cancel()
        if thread is not None:
            self._puts.put(None)
            thread.join()
        if replies is not None:
            replies.close()
        self._publisher.close()

    # ── out ───────────────────────────────────────────────────────────────────

    def _submit(self, jobs: Sequence[NewJob]) -> Future[Sequence[str]]:
        """Begins to publish jobs. Raises `NotSupported`, TypeError and ValueError at once."""
        done: Future[Sequence[str]] = Future()
        ids = [job.id for job in jobs]
        if any(job.is_call for job in jobs):
            with self._lock:
                if self._replies is None:
                    self._replies = ProcessQueue(
                        self._settings, "replies", self._on_reply, self._on_gone
                    )
                known = {id for id in ids if id in self._calls}
            jobs = [job for job in jobs if job.id not in known]  # a second call is the first
        messages = [self._message(job) for job in jobs]
        with self._lock:
            for job in jobs:
                if job.is_call:
                    self._calls[job.id] = _Call(_begun_as(job), time.monotonic() + job.expires)
            if self._thread is None:
                self._thread = threading.Thread(target=self._publish, name="calls", daemon=True)
                self._thread.start()
        self._puts.put(_Put(messages, ids, done, any(job.is_call for job in jobs)))
        return done

    def _message(self, job: NewJob) -> OutgoingMessage:
        where = f"task {job.task}"
        if job.unique is not None or job.at_most_once:
            lacking = "at_most_once" if job.unique is None else "unique"
            raise NotSupported(f"{where}: {lacking} needs a store of jobs, and RabbitMQ is none")
        if job.priority and not job.is_ranked:
            raise NotSupported(
                f"{where}: priority {job.priority} on RabbitMQ needs a queue that takes some:"
                " declare the task with priorities="
            )
        delay = max(job.delay, job.at - time.time())
        if delay > 0 and job.expires < math.inf:
            raise NotSupported(
                f"{where}: a delay together with expires or call needs a store of jobs, and"
                " RabbitMQ is none"
            )
        headers = json.loads(job.headers)
        headers.pop(_ATTEMPTS, None)
        given: dict[str, Any] = {
            "message_id": job.id,
            "type": "call",
            "content_type": "application/json",
            "delivery_mode": 2 if job.is_persistent else 1,
        }
        if job.meta != b"{}":
            headers["x-callboard-meta"] = json.loads(job.meta)
        if job.is_call and self._replies is not None:
            headers[CALLER] = 1
            given |= {"reply_to": self._replies.name, "correlation_id": job.id}
        if job.expires < math.inf:
            given["expiration"] = str(max(1, round(job.expires * 1000)))
        if job.priority:
            given["priority"] = job.priority
        body = job.body
        if is_worth(body):
            body, given["content_encoding"] = compressed(body), GZIP
        try:
            properties, id = self._publisher.properties({**given, "headers": headers})
        except (TypeError, ValueError) as error:
            raise InvalidArguments(f"{where}: {error}") from None
        return OutgoingMessage(
            job.queue, body, properties, id, mandatory=True, delay=max(0.0, delay)
        )

    def _publish(self) -> None:
        """The thread that publishes."""
        while (put := self._puts.get()) is not None:
            puts: list[_Put] = [put]
            last = False
            while len(puts) < GATHERED_MAX and not last:
                try:
                    more = self._puts.get_nowait()
                except Empty:
                    break
                last = more is None
                if more is not None:
                    puts.append(more)
            try:
                self._publish_together(puts)
            except Exception as error:  # whatever it is, whoever waits is to hear of it
                for one in puts:
                    self._refuse(one, error)
            if last:
                return

    def _publish_together(self, puts: Sequence[_Put]) -> None:
        until = time.monotonic() + PUT_TIMEOUT_S
        cause = ""
        try:
            if (replies := self._replies) and any(put.is_call for put in puts):
                replies.wait_ready(PUT_TIMEOUT_S)
            left = max(0.1, until - time.monotonic())
            self._publisher.send([message for put in puts for message in put.messages], left)
        except (PublishError, UnreachableError) as error:
            cause = str(error)
        for put in puts:
            refused = [one for one in put.messages if one.outcome != ""]
            if not refused:
                self._sent(put)
                continue
            first = refused[0]
            told = f"{self._settings}: {first.routing_key}: {first.outcome}"
            self._refuse(
                put, UnreachableError(cause) if first.outcome is None else PublishError(told)
            )

    def _sent(self, put: _Put) -> None:
        with self._lock:
            for id in put.ids:
                if call := self._calls.get(id):
                    call.is_sent = True
        _resolve(put.done, put.ids)

    def _refuse(self, put: _Put, error: Exception) -> None:
        with self._lock:
            for message in put.messages:
                self._calls.pop(message.id, None)
        with contextlib.suppress(InvalidStateError):  # whoever waited is gone
            put.done.set_exception(error)

    # ── in ────────────────────────────────────────────────────────────────────

    def _on_reply(self, delivery: Delivery) -> None:
        try:
            properties = decode_properties(delivery.properties)
            body = delivery.body
            if properties.content_encoding == GZIP:
                body = inflated(body)
        except (InvalidMessage, ValueError) as error:
            logger.warning("%s: a reply cannot be read: %s", self._settings, error)
            return
        worker = str((properties.headers or {}).get("x-callboard-worker", ""))
        with self._lock:
            call = self._calls.get(properties.correlation_id or "")
            if call is None or call.info.status in _ENDS:
                return  # nobody waits for it any more
            call.info = _told(call.info, properties.type or "result", body, worker)
            told = self._news(call)
        _tell(told, call.info)

    def _on_gone(self) -> None:
        """The queue of replies was deleted: what was in it nobody knows."""
        told: list[tuple[list[Waiter], JobInfo]] = []
        lost = {"type": "ReplyLost", "message": "the queue of replies is gone", "args": []}
        with self._lock:
            for call in self._calls.values():
                if call.is_sent and call.info.status not in _ENDS:
                    call.info = _ended(
                        call.info, Status.FAILED, json.dumps(lost).encode(), "ReplyLost"
                    )
                    told.append((self._news(call), call.info))
        for waiters, info in told:
            _tell(waiters, info)

    def _news(self, call: _Call) -> list[Waiter]:
        """Who is to hear of a change; what has ended is remembered for a while."""
        if call.info.status in _ENDS:
            self._ended.append(call.info.id)
            while len(self._ended) > ENDED_MAX:
                self._calls.pop(self._ended.popleft(), None)
        waiters = [one for one, known in call.waiters.items() if is_news(call.info, known)]
        for one in waiters:
            del call.waiters[one]
        return waiters

    # ── whoever waits ─────────────────────────────────────────────────────────

    def _watch(self, id: str, known: JobInfo | None) -> Waiter:
        waiter: Waiter = Future()
        with self._lock:
            call = self._calls.get(id)
            if call is None or is_news(call.info, known):
                waiter.set_result(call.info if call else None)
            else:
                call.waiters[waiter] = known
        return waiter

    def _forget(self, id: str, waiter: Waiter) -> None:
        with self._lock:
            if call := self._calls.get(id):
                call.waiters.pop(waiter, None)

    def _patience(self, id: str, timeout: float) -> float:
        """Seconds to wait for news: no longer than until nobody can have begun the job."""
        with self._lock:
            call = self._calls.get(id)
            if call is None or call.info.status is not Status.QUEUED:
                return timeout
            return max(0.0, min(timeout, call.expires + BEGUN_S - time.monotonic()))

    def _look(self, id: str) -> JobInfo | None:
        """A call as it is now, which has failed where nobody began it in time."""
        with self._lock:
            call = self._calls.get(id)
            if call is None:
                return None
            is_late = time.monotonic() >= call.expires + BEGUN_S
            told: list[Waiter] = []
            if call.info.status is Status.QUEUED and is_late:
                call.info = _ended(call.info, Status.FAILED, b"", EXPIRED)
                told = self._news(call)
        _tell(told, call.info)
        return call.info

    def _cancel(self, id: str) -> JobInfo | None:
        """The queue keeps the message until it expires, and its caller waits no longer."""
        with self._lock:
            call = self._calls.get(id)
            if call is None:
                return None
            told: list[Waiter] = []
            if call.info.status is Status.QUEUED:
                call.info = _ended(call.info, Status.CANCELED, b"", "")
                told = self._news(call)
        _tell(told, call.info)
        return call.info


class _CallStore:
    """An `actors.logic.jobs.store.JobStore` of the calls of this process, for there is no other."""

    def __init__(self, calls: RabbitMQCalls) -> None:
        self._calls = calls

    def put(self, jobs: Sequence[NewJob], timeout: float = 30.0) -> builtins.list[str]:
        return [*self._calls.put_sync(jobs)]

    def get(self, id: str) -> JobInfo | None:
        return self._calls._look(id) or self._unsupported(f"the state of job {id}")

    def look(self, ids: Collection[str]) -> dict[str, JobInfo]:
        found = {id: self._calls._look(id) for id in ids}
        return {id: info for id, info in found.items() if info is not None}

    def list(self, **_: Any) -> builtins.list[JobInfo]:
        self._unsupported("a list of jobs")

    def count(self, queue: str = "") -> Any:
        self._unsupported("the number of jobs")

    def cancel(self, id: str, *, stop: bool = False) -> JobInfo | None:
        info = self._calls._cancel(id)
        if info is None or (stop and info.status is Status.STARTED):
            self._unsupported(f"to {'stop' if stop else 'cancel'} job {id}")
        return info

    def redrive(self, id: str) -> bool:
        self._unsupported(f"to retry job {id}")

    def delete(self, id: str) -> bool:
        self._unsupported(f"to delete job {id}")

    def pause(self, queue: str, seconds: float | None = None) -> None:
        self._unsupported(f"to pause queue {queue}")

    def resume(self, queue: str) -> None:
        self._unsupported(f"to resume queue {queue}")

    def paused(self) -> dict[str, float]:
        self._unsupported("what is paused")

    def wait(self, ids: Collection[str], timeout: float) -> None:
        """Nobody waits here: replies tell."""

    def wake(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """There is nothing to let go of."""

    def _unsupported(self, what: str) -> NoReturn:
        raise NotSupported(
            f"{self._calls}: {what} needs a store of jobs, which RabbitMQ is not: a spool is one"
        )


def _begun_as(job: NewJob) -> JobInfo:
    return JobInfo(
        job.id, job.task, job.queue, Status.QUEUED, time.time(),
        priority=job.priority, description=job.description,
    )  # fmt: skip


def _told(info: JobInfo, kind: str, body: bytes, worker: str) -> JobInfo:
    """A call after a word of its worker's."""
    now, worker = time.time(), worker or info.worker
    info = replace(info, worker=worker, attempts=info.attempts or 1)
    begun = info.begun or now
    if kind == "begun":
        return replace(info, status=Status.STARTED, begun=begun)
    if kind == "progress":
        told = _object(body)
        progress = told.get("progress")
        return replace(
            info, status=Status.STARTED, begun=begun, note=str(told.get("note", "")),
            progress=float(progress) if isinstance(progress, int | float) else info.progress,
        )  # fmt: skip
    if kind != "error":
        return _ended(replace(info, begun=begun), Status.FINISHED, body, "")
    failure = _object(body).get("error")
    failure = failure if isinstance(failure, dict) else {}
    error = str(failure.get("type", "")) or "Exception"
    status = Status.STOPPED if error == "TaskStopped" else Status.FAILED
    return _ended(info, status, json.dumps(failure).encode(), error)


def _ended(info: JobInfo, status: Status, outcome: bytes, error: str) -> JobInfo:
    return replace(info, status=status, outcome=outcome, error=error, ended=time.time())


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _tell(waiters: Sequence[Waiter], info: JobInfo) -> None:
    for waiter in waiters:
        _resolve(waiter, info)


def _resolve(future: Future[Any], value: Any) -> None:
    with contextlib.suppress(InvalidStateError):  # whoever waited is gone
        future.set_result(value)
