"""Calls over RabbitMQ: a job is a message, and its outcome a reply; nothing else is kept of it."""

from __future__ import annotations

import builtins
import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, NoReturn, TypeVar

from actors.connectors.rabbitmq.amqp import Settings
from actors.connectors.rabbitmq.message import decode_properties
from actors.connectors.rabbitmq.process_queue import ProcessQueue
from actors.connectors.rabbitmq.publishing.copies import RawProperties
from actors.connectors.rabbitmq.publishing.publisher import AMQPPublisher
from actors.connectors.rabbitmq.waiter import Waiter, tell
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
from actors.logic.settlement.failure import describe

T = TypeVar("T")

#: Seconds within which a job must be stored, while its broker is away.
PUT_TIMEOUT_S = 30.0
#: Messages that are published and confirmed together, at the most.
GATHERED_MAX = 1000
#: Calls that have ended and are remembered, so that their jobs may be asked for.
ENDED_MAX = 1000
#: Seconds after which a call is forgotten that nobody waits for and no reply came to, and between
#: two looks for those.
FORGET_S, SWEEP_S = 3600.0, 60.0
#: Seconds for which the word that a job has begun may be under way.
BEGUN_S = 0.5

#: A header that only a store of jobs acts by: a queue knows who waits by `reply_to`.
_ATTEMPTS = "x-callboard-attempts"

_ENDS = (Status.FINISHED, Status.FAILED, Status.STOPPED, Status.CANCELED)

logger = own_logger("actors.caller")

_Told = tuple[Waiter[JobInfo | None], JobInfo | None]


@dataclass(slots=True)
class _Call:
    """A call of this process, from its begin until it is forgotten."""

    info: JobInfo
    expires: float  #: by the monotonic clock, when a worker must have begun it
    forget: float  #: when it is forgotten though no reply came
    is_sent: bool = False
    waiters: dict[Waiter[JobInfo | None], JobInfo | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Put:
    """Jobs that are to be stored together, as far as a broker can."""

    messages: Sequence[OutgoingMessage]
    ids: Sequence[str]
    done: Waiter[Sequence[str]]
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
        self._next_sweep = 0.0
        self._puts: SimpleQueue[_Put | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._replies: ProcessQueue | None = None
        self._store: JobStore = _CallStore(self)

    def __str__(self) -> str:
        return str(self._settings)

    # ── the client ────────────────────────────────────────────────────────────

    async def put(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        return await self._submit(jobs, is_async=True).value()

    def put_sync(self, jobs: Sequence[NewJob]) -> Sequence[str]:
        return self._submit(jobs, is_async=False).value_sync()

    async def run(self, ask: Callable[[JobStore], T]) -> T:
        return ask(self._store)

    def run_sync(self, ask: Callable[[JobStore], T]) -> T:
        return ask(self._store)

    async def changed(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        waiter: Waiter[JobInfo | None] = Waiter(is_async=True)
        if self._has_news(id, known, waiter):
            return self._look(id)
        try:
            return await waiter.value(self._patience(id, timeout))
        except TimeoutError:
            return self._look(id)
        finally:
            self._forget(id, waiter)

    def changed_sync(self, id: str, known: JobInfo | None, timeout: float) -> JobInfo | None:
        waiter: Waiter[JobInfo | None] = Waiter(is_async=False)
        if self._has_news(id, known, waiter):
            return self._look(id)
        try:
            return waiter.value_sync(self._patience(id, timeout))
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
        tell((waiter, None) for waiter in waiters)
        if thread is not None:
            self._puts.put(None)
            thread.join()
        if replies is not None:
            replies.close()
        self._publisher.close()

    # ── out ───────────────────────────────────────────────────────────────────

    def _submit(self, jobs: Sequence[NewJob], *, is_async: bool) -> Waiter[Sequence[str]]:
        """Begins to publish jobs. Raises `NotSupported`, TypeError and ValueError at once."""
        done: Waiter[Sequence[str]] = Waiter(is_async=is_async)
        ids = [job.id for job in jobs]
        if any(job.is_call for job in jobs):
            with self._lock:
                if self._replies is None:
                    self._replies = ProcessQueue(
                        self._settings, "replies", self._on_replies, self._on_gone
                    )
                known = {id for id in ids if id in self._calls}
            jobs = [job for job in jobs if job.id not in known]  # a second call is the first
        messages = [self._message(job) for job in jobs]
        with self._lock:
            self._sweep()
            for job in jobs:
                if job.is_call:
                    self._calls[job.id] = self._call_of(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._publish, name="calls", daemon=True)
                self._thread.start()
        self._puts.put(_Put(messages, ids, done, any(job.is_call for job in jobs)))
        return done

    def _call_of(self, job: NewJob) -> _Call:
        now = time.monotonic()
        return _Call(_begun_as(job), now + job.expires, now + FORGET_S)

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
        properties, id = self._publisher.properties(given)
        properties.headers = headers
        try:
            encoded = b"".join(properties.encode())
        except Exception as error:  # whatever pika raises for what AMQP cannot carry
            raise InvalidArguments(f"{where}: headers: {describe(error)}") from None
        return OutgoingMessage(
            job.queue, body, RawProperties(encoded), id, mandatory=True, delay=max(0.0, delay)
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
                tell([(one.done, self._refused(one, error)) for one in puts])
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
        tell([(put.done, self._outcome(put, cause)) for put in puts])

    def _outcome(self, put: _Put, cause: str) -> Sequence[str] | Exception:
        """The ids of what is stored, or why it is not."""
        refused = next((one for one in put.messages if one.outcome != ""), None)
        if refused is None:
            with self._lock:
                for id in put.ids:
                    if call := self._calls.get(id):
                        call.is_sent = True
            return put.ids
        if refused.outcome is None:
            return self._refused(put, UnreachableError(cause))
        told = f"{self._settings}: {refused.routing_key}: {refused.outcome}"
        return self._refused(put, PublishError(told))

    def _refused(self, put: _Put, error: Exception) -> Exception:
        with self._lock:
            for message in put.messages:
                self._calls.pop(message.id, None)
        return error

    def _sweep(self) -> None:
        """Forgets calls that nobody waits for any more, and to which no reply came."""
        now = time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_S
            self._calls = {
                id: call for id, call in self._calls.items()
                if call.waiters or call.forget > now or call.info.status in _ENDS
            }  # fmt: skip

    # ── in ────────────────────────────────────────────────────────────────────

    def _on_replies(self, deliveries: Sequence[Delivery]) -> None:
        tell([one for delivery in deliveries for one in self._replied(delivery)])

    def _replied(self, delivery: Delivery) -> list[_Told]:
        """Takes a reply or a notice; returns who is to hear what."""
        try:
            properties = decode_properties(delivery.properties)
            body = delivery.body
            if properties.content_encoding == GZIP:
                body = inflated(body)
        except (InvalidMessage, ValueError) as error:
            logger.warning("%s: a reply cannot be read: %s", self._settings, error)
            return []
        worker = str((properties.headers or {}).get("x-callboard-worker", ""))
        with self._lock:
            call = self._calls.get(properties.correlation_id or "")
            if call is None or call.info.status in _ENDS:
                return []  # nobody waits for it any more
            call.info = _told(call.info, properties.type or "result", body, worker)
            return self._news(call)

    def _on_gone(self) -> None:
        """The queue of replies was deleted: what was in it nobody knows."""
        told: list[_Told] = []
        lost = json.dumps({"type": "ReplyLost", "message": "the queue of replies is gone"}).encode()
        with self._lock:
            for call in [*self._calls.values()]:
                if call.is_sent and call.info.status not in _ENDS:
                    call.info = _ended(call.info, Status.FAILED, lost, "ReplyLost")
                    told += self._news(call)
        tell(told)

    def _news(self, call: _Call) -> list[_Told]:
        """Who is to hear of a change; what has ended is remembered for a while."""
        if call.info.status in _ENDS:
            self._ended.append(call.info.id)
            while len(self._ended) > ENDED_MAX:
                self._calls.pop(self._ended.popleft(), None)
        waiters = [one for one, known in call.waiters.items() if is_news(call.info, known)]
        for one in waiters:
            del call.waiters[one]
        return [(one, call.info) for one in waiters]

    # ── whoever waits ─────────────────────────────────────────────────────────

    def _has_news(self, id: str, known: JobInfo | None, waiter: Waiter[JobInfo | None]) -> bool:
        """Whether a call differs from what is known of it; where it does not, one waits."""
        with self._lock:
            call = self._calls.get(id)
            if call is None or is_news(call.info, known):
                return True
            call.waiters[waiter] = known
        return False

    def _forget(self, id: str, waiter: Waiter[JobInfo | None]) -> None:
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
            told: list[_Told] = []
            if call.info.status is Status.QUEUED and is_late:
                call.info = _ended(call.info, Status.FAILED, b"", EXPIRED)
                told = self._news(call)
        tell(told)
        return call.info

    def _cancel(self, id: str) -> JobInfo | None:
        """The queue keeps the message until it expires, and its caller waits no longer."""
        with self._lock:
            call = self._calls.get(id)
            if call is None:
                return None
            told: list[_Told] = []
            if call.info.status is Status.QUEUED:
                call.info = _ended(call.info, Status.CANCELED, b"", "")
                told = self._news(call)
        tell(told)
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
