"""The jobs of a queue, run in a handler's process: arguments in, outcome out."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from actors.api.message import Mark, Message
from actors.api.options import Retry, compile_table, policy_of
from actors.api.route import ProcessHandler
from actors.errors import (
    InvalidHandler,
    InvalidMessage,
    JobInterrupted,
    TaskFailed,
    UnknownTask,
)
from actors.log import own_logger
from actors.logic.jobs import dialects
from actors.logic.jobs.job import Answer
from actors.logic.settlement.failure import (
    DEAD_LETTER,
    Outcome,
    Policy,
    class_name,
    describe,
    policy_for,
    said,
)
from actors.metrics import Counter, Histogram
from actors.tasks.context import JobContext, JobSignal, RetryJob, SnoozeJob, running
from actors.tasks.headers import (
    ARGUMENTS,
    ATTEMPTS,
    META,
    PREFIX,
    RESULT,
    TASK,
    TIMEOUT,
    number_of,
)
from actors.usercode.app import log_failure
from actors.usercode.watch import JobRun, Watch, worker_name

if TYPE_CHECKING:
    from actors.api.app import App
    from actors.tasks.task import Declared

JOBS = Counter("callboard_jobs", "Runs of jobs, by what they came to.", ["task", "status"])
RUN_TIME = Histogram("callboard_job_run_seconds", "Time that a run of a job took.", ["task"])

#: Seconds until a job is handed out again whose task these workers do not know, and for which that
#: goes on: workers of another version may know it.
UNKNOWN_S = 10.0
UNKNOWN_FOR_S = 3600.0

TRACEBACK_MAX = 16 * 1024  #: characters of a traceback that are kept


class QueueHandler(ProcessHandler):
    """The handler of a queue of jobs: the tasks that it serves."""

    tasks: dict[str, Declared]

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.tasks = {}

    @property
    def is_async(self) -> bool:  # type: ignore[override]
        return all(task.is_async for task in self.tasks.values())

    def check(self) -> None:
        for task in self.tasks.values():
            task.signature.check()

    def for_process(self, app: App, watch: Watch) -> TaskWorker:
        return TaskWorker(self.tasks, app, watch)


@dataclass(slots=True)
class RunningJob:
    """A job in this process."""

    message: Message[Any]
    task: Declared
    run: JobRun
    context: JobContext
    arguments: dict[str, Any]
    wants_result: bool
    request: bytes  #: of a caller that waits for a reply


class TaskWorker:
    """Runs the jobs of a queue in one process."""

    def __init__(self, tasks: Mapping[str, Declared], app: App, watch: Watch) -> None:
        self._tasks = tasks
        self._app = app
        self._watch = watch
        self._worker = worker_name()
        self._times = {name: RUN_TIME.labels(name) for name in tasks}
        self._finished = {name: JOBS.labels(name, "finished") for name in tasks}
        self._instances: dict[str, Any] = {}
        self._loop: asyncio.AbstractEventLoop
        self._logs = {name: own_logger(f"actors.task.{name}") for name in tasks}
        self._tables = {name: table_of(task) for name, task in tasks.items()}

    # ── the life of a process ─────────────────────────────────────────────────

    async def on_start(self) -> None:
        """Makes an instance of each task that is a class."""
        self._loop = asyncio.get_running_loop()
        for name, task in self._tasks.items():
            if task.actor is not None and name not in self._instances:
                instance = task.actor()
                instance.app, instance.log = self._app, self._logs[name]
                started = instance.on_start()
                if inspect.isawaitable(started):
                    await started
                self._instances[name] = instance

    async def on_stop(self) -> None:
        """The last call of each instance."""
        while self._instances:
            _, instance = self._instances.popitem()
            stopped = instance.on_stop()
            if inspect.isawaitable(stopped):
                await stopped

    # ── jobs ──────────────────────────────────────────────────────────────────

    def handle(self, messages: list[Message[Any]]) -> Any:
        """Runs the jobs of a bulk: one, or all of a bulk task together."""
        jobs = [job for message in messages if (job := self._job(message))]
        if not jobs:
            return None
        task = jobs[0].task
        if task.is_bulk:
            return self._handle_bulk(task, jobs)
        (job,) = jobs
        function = self._function(task)
        if task.is_async:
            return self._await(job, function)
        self._call(job, function)
        return None

    def _function(self, task: Declared) -> Any:
        return self._instances[task.name].run if task.actor is not None else task.function

    def _call(self, job: RunningJob, function: Any) -> None:
        token = running.set(job.context)
        result, error = self._called(job.run, function, job.arguments)
        running.reset(token)
        self._settle(job, result, error)

    def _called(
        self, run: JobRun, function: Any, arguments: dict[str, Any]
    ) -> tuple[Any, BaseException | None]:
        """What a function returned, and what it raised; after it, nothing is interrupted any
        more."""
        result, error = None, None
        try:
            try:
                run.thread = threading.get_ident()
                self._watch.begin(run)
                result = function(**arguments)
            except BaseException as raised:
                error = raised
            self._watch.end(run)
        except JobInterrupted as late:  # it came between the end and the word of it
            error = error or late
            self._watch.end(run)
        return result, error

    async def _await(self, job: RunningJob, function: Any) -> None:
        token = running.set(job.context)
        result, error = await self._awaited(job.run, function, job.arguments)
        running.reset(token)
        self._settle(job, result, error)

    async def _awaited(
        self, run: JobRun, function: Any, arguments: dict[str, Any]
    ) -> tuple[Any, BaseException | None]:
        """The same of a coroutine function."""
        run.task = asyncio.current_task()
        self._watch.begin(run)
        try:
            return await function(**arguments), None
        except asyncio.CancelledError:
            if not run.interrupted or run.task is None:
                raise  # not of our doing: the process ends
            run.task.uncancel()
            return None, JobInterrupted()
        except BaseException as raised:
            return None, raised
        finally:
            self._watch.end(run)

    # ── bulk tasks ────────────────────────────────────────────────────────────

    def _handle_bulk(self, task: Declared, jobs: list[RunningJob]) -> Any:
        name = task.signature.names[0]
        values = [job.arguments[name] for job in jobs]
        run = jobs[0].run
        run.receipts = tuple(receipt for job in jobs for receipt in job.run.receipts)
        run.timeout = min(job.run.timeout for job in jobs)
        if any(job.run.requests for job in jobs):
            run.requests = tuple((*job.run.requests, b"")[0] for job in jobs)
        for job in jobs:
            job.run = run
        if task.is_async:
            return self._await_bulk(task, jobs, {name: values})
        results, error = self._called(run, self._function(task), {name: values})
        self._settle_bulk(task, jobs, results, error)
        return None

    async def _await_bulk(
        self, task: Declared, jobs: list[RunningJob], arguments: dict[str, Any]
    ) -> None:
        results, error = await self._awaited(jobs[0].run, self._function(task), arguments)
        self._settle_bulk(task, jobs, results, error)

    def _settle_bulk(
        self, task: Declared, jobs: list[RunningJob], results: Any, error: BaseException | None
    ) -> None:
        """Each caller gets its own of what the function returned."""
        if error is None and (not isinstance(results, list) or len(results) != len(jobs)):
            found = f"{len(results)}" if isinstance(results, list) else class_name(type(results))
            error = InvalidHandler(
                f"bulk task {task.name} got {len(jobs)} and returned {found}: it returns a list of"
                " as many"
            )
        for index, job in enumerate(jobs):
            result = None if error is not None else results[index]
            if isinstance(result, BaseException):
                self._settle(job, None, result)
            else:
                self._settle(job, result, error)

    # ── in ────────────────────────────────────────────────────────────────────

    def _job(self, message: Message[Any]) -> RunningJob | None:
        """A message as a job; None: it is settled already, for it cannot be run."""
        try:
            headers = message.headers
            request = message._request()
            task = self._task_of(headers)
        except InvalidMessage as error:
            self._refuse(message, "", error)
            return None
        if task is None:
            self._not_known(message, str(headers.get(TASK, "")))
            return None
        try:
            arguments = self._arguments(task, message, headers)
        except InvalidMessage as error:
            self._refuse(message, task.name, error)
            return None
        share, index = message._handout.share, message._index
        timeout = number_of(headers.get(TIMEOUT), task.options.timeout)
        run = JobRun(
            share.number if share else 0, (share.receipt(index),) if share else (),
            timeout, task.options.grace, self._watch.now(),
            requests=(request,) if request and dialects.CALLER in headers else (),
        )  # fmt: skip
        meta = headers.get(META)
        context = JobContext(
            run, self._watch,
            id=message.id, task=task.name, queue=message.queue, attempt=message.attempts + 1,
            headers={key: value for key, value in headers.items() if not key.startswith(PREFIX)},
            meta=dict(meta) if isinstance(meta, dict) else {},
            worker=self._worker, log=self._logs[task.name],
        )  # fmt: skip
        if task.signature.context:
            arguments[task.signature.context] = context
        wants_result = headers.get(RESULT) != "none" and (message._keeps_jobs or bool(request))
        return RunningJob(message, task, run, context, arguments, wants_result, request)

    def _arguments(
        self, task: Declared, message: Message[Any], headers: Mapping[str, Any]
    ) -> dict[str, Any]:
        body = message._payload()
        if dialects.is_celery(headers):
            try:
                body = dialects.celery_arguments(body, task.signature.names)
            except ValueError as error:
                raise InvalidMessage(str(error)) from None
        return task.signature.decode(body, str(headers.get(ARGUMENTS, "")))

    def _task_of(self, headers: Mapping[str, Any]) -> Declared | None:
        name = headers.get("task") if dialects.is_celery(headers) else headers.get(TASK)
        if name is None and len(self._tasks) == 1:
            return next(iter(self._tasks.values()))
        return self._tasks.get(name) if isinstance(name, str) else None

    def _not_known(self, message: Message[Any], name: str) -> None:
        """Workers of another version may know it: it waits for them, for a while."""
        created = getattr(getattr(message, "_record", None), "enqueued", 0.0)
        if name and self._watch.wall() < created + UNKNOWN_FOR_S:
            self._mark(message, Mark(Outcome.SNOOZE, UNKNOWN_S), Answer(worker=self._worker))
            return
        known = ", ".join(self._tasks)
        told = f"no task is named {name!r} here" if name else f"{TASK} names none"
        self._refuse(message, name, UnknownTask(f"{told}; there are: {known}"))

    def _refuse(self, message: Message[Any], task: str, error: Exception) -> None:
        """What can never be run has failed at once."""
        text = f"task {task or message.queue}: job {message.id} is refused: {describe(error)}"
        self._log_failure(text, kind=f"task {task}: a job is refused", level=logging.WARNING)
        kind = type(error).__name__
        request = b""
        with contextlib.suppress(InvalidMessage):  # nobody can read to whom
            request = message._request()
        answer = Answer(_failure(kind, said(error)), kind, worker=self._worker, request=request)
        self._mark(message, Mark(Outcome.DEAD_LETTER, 0.0, said(error), answer.error), answer)
        JOBS.labels(task or message.queue, "failed").inc()

    # ── out ───────────────────────────────────────────────────────────────────

    def _settle(self, job: RunningJob, result: Any, error: BaseException | None) -> None:
        """The outcome of a run, with its mark."""
        seconds = self._watch.now() - job.run.started
        self._times[job.task.name].observe(seconds)
        if error is None:
            outcome, error = self._encoded(job, result)
            if error is None:
                self._finish(job, outcome, seconds)
                return
        if isinstance(error, JobInterrupted) or job.run.interrupted:
            self._interrupted(job, seconds)
        elif isinstance(error, JobSignal):
            self._signalled(job, error, seconds)
        else:
            self._raised(job, error, seconds)

    def _encoded(self, job: RunningJob, result: Any) -> tuple[bytes, BaseException | None]:
        if not job.wants_result:
            return b"", None
        try:
            outcome = job.task.encode_result(result)
        except Exception as error:  # a serializer may raise anything
            kind = class_name(type(result))
            return b"", ResultInvalid(f"the result, {kind}, is no JSON: {said(error)[:200]}")
        most = job.task.options.max_result
        if len(outcome) > most:
            return b"", ResultTooLarge(
                f"the result is {len(outcome):,} bytes, more than max_result, {most:,}"
            )
        return outcome, None

    def _finish(self, job: RunningJob, outcome: bytes, seconds: float) -> None:
        self._finished[job.task.name].inc()
        if not job.wants_result and not job.context.has_news:
            job.message._mark(Mark(Outcome.ACK))
            return
        self._mark(job.message, Mark(Outcome.ACK), self._answer(job, seconds, outcome))

    def _interrupted(self, job: RunningJob, seconds: float) -> None:
        """Its time was over, or somebody stopped it."""
        if job.run.interrupted == "stop":
            error, reason = "TaskStopped", "stopped"
        else:
            error, reason = "TimeoutError", f"it took longer than {job.run.timeout:g} s"
        self._log_failure(
            f"task {job.task.name}: job {job.context.id} was ended: {reason}",
            kind=f"task {job.task.name}: a job was ended: {error}", level=logging.WARNING,
        )  # fmt: skip
        policy = self._tables[job.task.name].get(TimeoutError, DEAD_LETTER)
        outcome = _failure(error, reason)
        if job.run.interrupted == "stop":
            answer = self._answer(job, seconds, outcome, error)._replace(is_stopped=True)
            self._mark(job.message, Mark(Outcome.DEAD_LETTER, 0.0, reason, error), answer)
            JOBS.labels(job.task.name, "stopped").inc()
        else:
            self._apply(job, policy, seconds, outcome, error, reason)

    def _signalled(self, job: RunningJob, signal: JobSignal, seconds: float) -> None:
        match signal:
            case SnoozeJob():
                answer = self._answer(job, seconds)
                self._mark(job.message, Mark(Outcome.SNOOZE, signal.delay), answer)
                JOBS.labels(job.task.name, "snoozed").inc()
            case RetryJob():
                reason = said(signal) or "retry() was called"
                policy = self._retries(job, Exception)
                if policy.outcome is not Outcome.RETRY:
                    policy = policy_of(Retry())
                self._apply(
                    job, policy, seconds, _failure("RetryJob", reason), "RetryJob", reason,
                    signal.delay,
                )  # fmt: skip
            case _:
                reason = said(signal)
                self._apply(
                    job, DEAD_LETTER, seconds, _failure("TaskFailed", reason), "TaskFailed", reason
                )

    def _raised(self, job: RunningJob, error: BaseException, seconds: float) -> None:
        if isinstance(error, self._watch.lethal):
            raise error
        name, attempt = class_name(type(error)), job.context.attempt
        self._log_failure(
            f"task {job.task.name}: job {job.context.id}, run {attempt}, raised {describe(error)}",
            error, f"task {job.task.name}: it raised {name}",
        )  # fmt: skip
        policy = self._retries(job, type(error))
        self._apply(job, policy, seconds, failure_of(error), name, said(error))

    def _retries(self, job: RunningJob, kind: type[BaseException]) -> Policy:
        """The table's word, unless somebody waits who declared no retries."""
        if issubclass(kind, ResultInvalid | ResultTooLarge | InvalidHandler):
            return DEAD_LETTER  # side effects stand
        declares = job.task.options.retry or job.task.options.on_exception
        if declares is None and self._is_call(job):
            return DEAD_LETTER
        return policy_for(self._tables[job.task.name], kind)

    def _is_call(self, job: RunningJob) -> bool:
        """Whether somebody waits."""
        if not job.message._keeps_jobs:
            return bool(job.request)
        asked = job.message.headers.get(ATTEMPTS)
        return asked is not None and number_of(asked, 0) <= 1

    def _apply(
        self,
        job: RunningJob,
        policy: Policy,
        seconds: float,
        outcome: bytes,
        error: str,
        reason: str,
        delay: float | None = None,
    ) -> None:
        settled, wait = policy.apply(job.context.attempt, job.message.serialized_data)
        if settled is Outcome.RETRY:
            mark = Mark(settled, wait if delay is None else delay, reason, error)
            JOBS.labels(job.task.name, "retried").inc()
        else:
            mark = Mark(Outcome.DEAD_LETTER, 0.0, reason, error)
            JOBS.labels(job.task.name, "failed").inc()
        self._mark(job.message, mark, self._answer(job, seconds, outcome, error))

    def _log_failure(self, *args: Any, **options: Any) -> None:
        """On the loop: repeats are summed up there."""
        self._loop.call_soon_threadsafe(partial(log_failure, *args, **options))

    def _answer(
        self, job: RunningJob, seconds: float, outcome: bytes = b"", error: str = ""
    ) -> Answer:
        progress = None
        if job.context.has_news:
            with contextlib.suppress(ValueError):  # meta that is no JSON: the last that was
                progress = job.context.said()
            progress = progress or job.run.progress
        return Answer(outcome, error, False, progress, seconds, self._worker, job.request)

    def _mark(self, message: Message[Any], mark: Mark, answer: Answer) -> None:
        message._handout.answers[message._index] = answer
        message._mark(mark)


class ResultInvalid(TaskFailed):
    """A result that is no JSON."""


class ResultTooLarge(TaskFailed):
    """A result that is larger than `max_result`."""


def table_of(task: Declared) -> dict[type[BaseException], Policy]:
    """What becomes of a run that raised, by the class of the exception."""
    options = task.options
    if options.at_most_once:
        return {Exception: DEAD_LETTER}
    return compile_table(options.on_exception if options.retry is None else options.retry)


def failure_of(error: BaseException) -> bytes:
    """An exception as an outcome."""
    lines: list[str] = []
    with contextlib.suppress(BaseException):  # of an odd error nothing may be asked
        lines = traceback.format_exception(error)
    args: list[Any] = []
    with contextlib.suppress(BaseException):
        args = json.loads(to_json(list(error.args)))
    return _failure(class_name(type(error)), said(error), args, "".join(lines)[-TRACEBACK_MAX:])


def _failure(kind: str, message: str, args: list[Any] | None = None, trace: str = "") -> bytes:
    outcome = {"type": kind, "message": message, "args": args or [], "traceback": trace}
    return json.dumps(outcome).encode()
