"""The jobs of an app as callers see them: put, asked for, waited for, canceled."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from actors.api.connector import connector_of
from actors.errors import InvalidArguments
from actors.logic.jobs.job import NewJob, Status
from actors.logic.jobs.jobs import EXPIRED
from actors.logic.jobs.store import JobInfo, JobStore, check_id
from actors.logic.messages.entry import check_queue
from actors.tasks.client import ENDED, JobClient, OpenClient, open_client
from actors.tasks.context import running
from actors.tasks.headers import ARGUMENTS, ATTEMPTS, RESULT, SECRET, TASK, TIMEOUT
from actors.tasks.job import Job
from actors.tasks.options import CallKeywords, CallOptions
from actors.tasks.places import Places, place_of

if TYPE_CHECKING:
    from typing import Unpack

    from actors.api.app import App
    from actors.tasks.task import Declared, NewCall

R = TypeVar("R")
T = TypeVar("T")

#: Seconds that a job keeps for itself of the time that it may wait for another.
OUTER_S = 0.5


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """The result of a call, with its job."""

    value: R
    job: Job[R]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked call, ready to be put."""

    new: NewJob
    connection: str  #: by name; empty: the app's only one
    wait: float


class Jobs:
    """`app.jobs`: the jobs of an app's connections."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.open: OpenClient = open_client  #: opens the client of a connection
        self._clients: dict[str, JobClient] = {}
        self._lock = threading.Lock()

    # ── one job, or many ──────────────────────────────────────────────────────

    async def get(self, id: str, *, connection: str = "") -> JobInfo | None:
        """A job by its id; None: there is none (any more). Raises ValueError for no id."""
        return await self.client(connection).run(_get(check_id(id)))

    def get_sync(self, id: str, *, connection: str = "") -> JobInfo | None:
        """`get` where there is no `await`."""
        return self.client(connection).run_sync(_get(check_id(id)))

    def handle(self, id: str, *, connection: str = "") -> Job[Any]:
        """The handle of a job by its id; nothing is asked yet."""
        return Job(self, check_id(id), None, connection)

    async def list(
        self,
        *,
        status: Status | str | None = None,
        task: str = "",
        queue: str = "",
        after: str = "",
        before: float | None = None,
        limit: int = 100,
        connection: str = "",
    ) -> list[JobInfo]:
        """Jobs in the order in which they were put: of a status, a task, a queue, after the one of
        an id, put before a time in seconds since the epoch."""
        ask = _list(status, task, queue, after, before, limit)
        return await self.client(connection).run(ask)

    def list_sync(
        self,
        *,
        status: Status | str | None = None,
        task: str = "",
        queue: str = "",
        after: str = "",
        before: float | None = None,
        limit: int = 100,
        connection: str = "",
    ) -> Sequence[JobInfo]:
        """`list` where there is no `await`."""
        ask = _list(status, task, queue, after, before, limit)
        return self.client(connection).run_sync(ask)

    async def count(self, queue: str = "", *, connection: str = "") -> Counter[Status]:
        """The number of jobs by status, of a queue or of all."""
        counted = await self.client(connection).run(lambda store: store.count(queue))
        return _by_status(counted)

    def count_sync(self, queue: str = "", *, connection: str = "") -> Counter[Status]:
        """`count` where there is no `await`."""
        return _by_status(self.client(connection).run_sync(lambda store: store.count(queue)))

    async def send_many(self, calls: Iterable[NewCall[Any]]) -> Sequence[Job[Any]]:
        """Puts all or none; in one transaction where one connection serves them all."""
        made = tuple(calls)
        ids: dict[int, str] = {}
        for connection, numbers in _by_connection(made).items():
            new = [made[number].prepared.new for number in numbers]
            put = await self.client(connection).put(new)
            ids.update(zip(numbers, put, strict=True))
        return [self.of_task(call, ids[number]) for number, call in enumerate(made)]

    def send_many_sync(self, calls: Iterable[NewCall[Any]]) -> Sequence[Job[Any]]:
        """`send_many` where there is no `await`."""
        made = tuple(calls)
        ids: dict[int, str] = {}
        for connection, numbers in _by_connection(made).items():
            new = [made[number].prepared.new for number in numbers]
            put = self.client(connection).put_sync(new)
            ids.update(zip(numbers, put, strict=True))
        return [self.of_task(call, ids[number]) for number, call in enumerate(made)]

    async def pause(
        self, queue: str, seconds: float | None = None, *, connection: str = ""
    ) -> None:
        """Hands out nothing of a queue, for so many seconds or until `resume`; it outlives
        restarts."""
        check_queue(queue)
        await self.client(connection).run(lambda store: store.pause(queue, seconds))

    def pause_sync(self, queue: str, seconds: float | None = None, *, connection: str = "") -> None:
        """`pause` where there is no `await`."""
        check_queue(queue)
        self.client(connection).run_sync(lambda store: store.pause(queue, seconds))

    def resume_sync(self, queue: str, *, connection: str = "") -> None:
        """`resume` where there is no `await`."""
        check_queue(queue)
        self.client(connection).run_sync(lambda store: store.resume(queue))

    async def resume(self, queue: str, *, connection: str = "") -> None:
        """Ends a pause."""
        check_queue(queue)
        await self.client(connection).run(lambda store: store.resume(queue))

    # ── calls ─────────────────────────────────────────────────────────────────

    async def request(self, call: NewCall[R]) -> Reply[R]:
        """Puts a job and waits for its outcome; a caller that is cancelled withdraws it."""
        prepared = as_call(call.prepared)
        client = self.client(prepared.connection)
        (id,) = await client.put([prepared.new])
        job: Job[R] = Job(self, id, call.task.declared, prepared.connection)
        try:
            info = await job.ended(prepared.wait)
        except asyncio.CancelledError:
            withdrawn = asyncio.ensure_future(job.cancel())
            _keep(withdrawn)
            raise
        if info.status not in (*ENDED, Status.STARTED):
            await job.cancel()  # who has begun it meanwhile goes on, and is waited for no longer
            info = _withdrawn(await job.info())
        return Reply(job.value_of(info), job)

    def request_sync(self, call: NewCall[R]) -> Reply[R]:
        """`request` where there is no `await`."""
        return self._requested_sync(call.prepared, call.task.declared)

    def call_sync(
        self, name: str, arguments: Any, *, queue: str = "", **options: Unpack[CallKeywords]
    ) -> Any:
        """Calls a task by its name, which this app need not have declared; returns its result."""
        prepared = self._by_name(name, arguments, CallOptions(**options), queue)
        return self._requested_sync(prepared, None).value

    def _requested_sync(self, call: Prepared, task: Declared | None) -> Reply[Any]:
        _refuse_loop()
        prepared = as_call(call)
        client = self.client(prepared.connection)
        (id,) = client.put_sync([prepared.new])
        job: Job[Any] = Job(self, id, task, prepared.connection)
        info = job.ended_sync(prepared.wait)
        if info.status not in (*ENDED, Status.STARTED):
            job.cancel_sync()
            info = _withdrawn(job.info_sync())
        return Reply(job.value_of(info), job)

    def new(
        self,
        task: Declared,
        options: CallOptions,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Prepared:
        """A call of a declared task, checked."""
        body, values = task.signature.encode(args, kwargs)
        if len(body) > task.options.max_args:
            raise InvalidArguments(
                f"task {task.name}: its arguments are {len(body):,} bytes, more than max_args,"
                f" {task.options.max_args:,}"
            )
        own = task.options
        headers: dict[str, Any] = dict(options.headers or {})
        headers[TASK] = task.name
        if own.secret:
            headers[SECRET] = list(own.secret)
        if options.timeout is not None:
            headers[TIMEOUT] = options.timeout
        ttl = own.result_ttl if options.result_ttl is None else options.result_ttl
        if not ttl:
            headers[RESULT] = "none"
        unique = None if own.unique is None else own.unique.key_of(task.name, values, body)
        new = NewJob(
            id=options.id or _new_id(),
            task=task.name,
            queue=task.queue,
            body=body,
            headers=_encoded(task.name, "headers", headers),
            priority=own.priority if options.priority is None else options.priority,
            delay=options.delay,
            at=options.at.timestamp() if options.at else -math.inf,
            expires=_least(own.expires if options.expires is None else options.expires),
            result_ttl=ttl,
            failure_ttl=math.inf if own.failure_ttl is None else own.failure_ttl,
            at_most_once=own.at_most_once,
            unique=unique,
            description=options.description,
            meta=_encoded(task.name, "meta", options.meta),
            is_persistent=own.persistent if options.persistent is None else options.persistent,
            is_ranked=own.priorities is not None,
        )
        return Prepared(new, options.connection or own.connection, options.wait)

    def named(
        self, name: str, arguments: Any, options: CallOptions, queue: str = "", connection: str = ""
    ) -> Prepared:
        """A call of a task by its name, which this app need not have declared."""
        headers: dict[str, Any] = {**(options.headers or {}), TASK: name}
        if options.timeout is not None:
            headers[TIMEOUT] = options.timeout
        if not isinstance(arguments, Mapping):
            headers[ARGUMENTS] = "list" if isinstance(arguments, list | tuple) else "one"
        body = _encoded(name, "arguments", arguments)
        new = NewJob(
            id=options.id or _new_id(),
            task=name,
            queue=queue or name,
            body=body,
            headers=_encoded(name, "headers", headers),
            priority=options.priority or 0,
            delay=options.delay,
            at=options.at.timestamp() if options.at else -math.inf,
            expires=_least(options.expires),
            result_ttl=500.0 if options.result_ttl is None else options.result_ttl,
            description=options.description,
            meta=_encoded(name, "meta", options.meta),
            is_persistent=options.persistent is not False,
        )
        return Prepared(new, options.connection or connection, options.wait)

    async def send(
        self, name: str, arguments: Any, *, queue: str = "", **options: Unpack[CallKeywords]
    ) -> Job[Any]:
        """Puts a job of a task by its name: see `App.send`."""
        prepared = self._by_name(name, arguments, CallOptions(**options), queue)
        (id,) = await self.client(prepared.connection).put([prepared.new])
        return Job(self, id, None, prepared.connection)

    def send_sync(
        self, name: str, arguments: Any, *, queue: str = "", **options: Unpack[CallKeywords]
    ) -> Job[Any]:
        """`send` where there is no `await`."""
        prepared = self._by_name(name, arguments, CallOptions(**options), queue)
        (id,) = self.client(prepared.connection).put_sync([prepared.new])
        return Job(self, id, None, prepared.connection)

    def _by_name(self, name: str, arguments: Any, options: CallOptions, queue: str) -> Prepared:
        check_id(name)
        if task := self._app.tasks.get(name):
            args, kwargs = _spread(arguments)
            return self.new(task.declared, options, args, kwargs)
        return self.named(name, arguments, options, queue)

    def of_task(self, call: NewCall[R], id: str) -> Job[R]:
        """The handle of a call that was put."""
        return Job(self, id, call.task.declared, call.prepared.connection)

    # ── connections ───────────────────────────────────────────────────────────

    def client(self, connection: str = "") -> JobClient:
        """The client of a connection, opened by the first call, in each process anew.

        Raises `InvalidConnection`, and `NotSupported` where it keeps no jobs.
        """
        with self._lock:
            client = self._clients.get(connection)
            if client is None or client.pid != os.getpid():
                kind, settings = place_of(self._app, connection, "jobs", _takes_jobs)
                client = self._clients[connection] = self.open(kind, settings)
            return client

    def close(self) -> None:
        """Lets go of what is open; a later call opens it again."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            if client.pid == os.getpid():
                client.close()


def _new_id() -> str:
    # The system's own random numbers cost a turn at the interpreter's lock, of which a caller has
    # three threads. A fork seeds these anew.
    return f"{random.getrandbits(128):032x}"


def _takes_jobs(places: Places) -> Places:
    """Those that take jobs; of several those that keep them."""
    kept = {name: place for name, place in places.items() if connector_of(place[0]).jobs}
    return kept or {
        name: place for name, place in places.items() if connector_of(place[0]).takes_jobs
    }


def as_call(prepared: Prepared) -> Prepared:
    """The same job with somebody who waits: it expires with that, and is not retried unless its
    task says so. Within a job, no longer than that job has time."""
    wait = prepared.wait
    if outer := running.get():
        left = outer.deadline
        wait = max(0.001, min(wait, left - min(OUTER_S, left / 10)))
    new = prepared.new
    headers = json.loads(new.headers)
    headers.pop(RESULT, None)
    headers[ATTEMPTS] = 1
    ready = replace(
        new, is_call=True, expires=min(new.expires, wait), headers=json.dumps(headers).encode()
    )
    return replace(prepared, new=ready, wait=wait)


def _withdrawn(job: JobInfo) -> JobInfo:
    """A job that its own caller canceled was begun by nobody in time."""
    if job.status is Status.CANCELED:
        return replace(job, status=Status.FAILED, error=EXPIRED)
    return job


def _get(id: str) -> Callable[[JobStore], JobInfo | None]:
    return lambda store: store.get(id)


def _list(
    status: Status | str | None,
    task: str,
    queue: str,
    after: str,
    before: float | None,
    limit: int,
) -> Callable[[JobStore], list[JobInfo]]:
    wanted = None if status is None else _status(status)
    return lambda store: store.list(
        status=wanted, task=task, queue=queue, after=after, before=before, limit=limit
    )


def _status(status: Status | str) -> Status:
    try:
        return Status(status)
    except ValueError:
        known = ", ".join(Status)
        raise ValueError(f"status must be one of {known}, not {status!r}") from None


def _by_status(counted: Counter[tuple[str, Status]]) -> Counter[Status]:
    total: Counter[Status] = Counter()
    for (_, status), number in counted.items():
        total[status] += number
    return total


def _by_connection(calls: Sequence[NewCall[Any]]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for number, call in enumerate(calls):
        numbers.setdefault(call.prepared.connection, []).append(number)
    return numbers


def _spread(arguments: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """As a message's body is read: an object is named arguments, any other value the one."""
    if isinstance(arguments, Mapping):
        return (), dict(arguments)
    if isinstance(arguments, list | tuple):
        return tuple(arguments), {}
    return (arguments,), {}


def _encoded(task: str, what: str, value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArguments(f"task {task}: {what}: no JSON: {error}") from None


def _least(expires: float | None) -> float:
    return math.inf if expires is None else expires


def _refuse_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "call_sync would stop the event loop that runs here: use `await task.call(…)`"
    )


_withdrawals: set[asyncio.Future[Any]] = set()


def _keep(future: asyncio.Future[Any]) -> None:
    """The loop itself keeps weak references only."""
    _withdrawals.add(future)
    future.add_done_callback(_withdrawals.discard)


async def gather(
    jobs: Jobs, calls: Sequence[NewCall[Any]], *, return_exceptions: bool = False
) -> Sequence[Any]:
    """The results of many calls, in their order, each within its own `wait`."""
    waiting = [asyncio.ensure_future(jobs.request(call)) for call in calls]
    try:
        replies = await asyncio.gather(*waiting, return_exceptions=return_exceptions)
    except BaseException:
        for one in waiting:
            one.cancel()
        raise
    return [reply.value if isinstance(reply, Reply) else reply for reply in replies]
