"""The test kit: an app on the in-memory stage, in virtual time, with the real actors."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from actors.api.app import App
from actors.api.connector import connectors
from actors.connectors.journal import NoJournal
from actors.connectors.memory.jobs import InlineClient, WorldJobs
from actors.connectors.memory.publisher import WorldPublisher
from actors.connectors.memory.topics import InlineTopics
from actors.connectors.memory.wire import Sent, Stored
from actors.connectors.memory.world import World
from actors.logic.jobs.job import Status as JobStatus
from actors.logic.messages.entry import MAX_DELAY, Entry, check_seconds
from actors.metrics import declared, use_registry
from actors.plan.build import build_plan
from actors.plan.plan import PipelinePlan
from actors.plan.settings import Settings
from actors.roles.protocol import ActorMessage, Configure, Drain, ReportStatus, Status
from actors.stages.memory import ClientFactory, MemoryStage
from actors.stages.observed import Crash, ObservedCode, When
from actors.tasks.client import ENDED, open_client
from actors.tasks.job import Job
from actors.tasks.jobs import as_call
from actors.tasks.task import Task, TaskActor
from actors.tasks.topics import open_topics
from actors.usercode.metrics_registry import MemoryRegistry
from actors.usercode.runner import InlineClockCode

__all__ = ["InMemorySystem", "Sent", "crash"]

P = ParamSpec("P")
R = TypeVar("R")

ROOT = "root#1"

#: Seconds of virtual time between two looks at a job that a test waits for.
CALL_STEP_S = 0.05

#: What may be killed, as `status` names it, and the role that it plays on the stage.
ROLES = {
    "supervisor": "pipeline",
    "connection": "connection",
    "batcher": "batcher",
    "handler": "handler",
    "clock": "clock",
}

_playing = 0  # systems in memory


def crash() -> None:
    """End this process as a fault in native code would; in memory, the handler actor."""
    if _playing:
        raise Crash("crash() was called")
    os.abort()


class InMemorySystem:
    """An app, played by the actors that play it for real.

    `state` replaces `app[…]` and skips the startup and shutdown hooks. An app that names
    no connection plays on a spool. `seed` draws the order in which actors get their turns.
    Leaving the block drains the system, and raises what handlers raised and nobody read
    with `errors`, or says whose handler still waits for something outside, unless
    `raise_errors` is False. It may be used within an async test, whose loop stands still
    meanwhile. `asyncio.sleep` takes virtual time; to wait for a socket raises RuntimeError.
    """

    world_class: Callable[..., World] = World
    stage_class: Callable[..., MemoryStage] = MemoryStage
    code_class: Callable[..., ObservedCode] = ObservedCode
    world: World
    stage: MemoryStage

    def __init__(
        self,
        app: App,
        state: Mapping[str, Any] | None = None,
        *,
        raise_errors: bool = True,
        seed: int = 0,
        settings: Settings | None = None,
    ) -> None:
        self._app = app
        self._state = state
        self._raise_errors = raise_errors
        self._seed = seed
        self._settings = settings or Settings(connections=() if app.connections else ("spool:",))
        self._kept_metrics = MemoryRegistry()
        self._ids = itertools.count(1)
        self._codes: list[ObservedCode] = []
        self._read: set[int] = set()
        self._doomed: list[When] = []

    # ── the block ─────────────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        global _playing
        plan = build_plan(self._app, self._settings)
        self._queues = {
            queue for pipeline in plan.pipelines for r in pipeline.routes for queue in r.queues
        }
        self._kept = dict(self._app.state)
        if self._state is not None:
            self._set_state(self._state)
        _playing += 1
        self.world = self.world_class(lambda: self.stage.now)
        self._app.open_outlets(plan.outlets, lambda kind, _: WorldPublisher(self.world, kind))
        clients: dict[str, ClientFactory] = {
            "runner": self._runner,
            "journal": NoJournal,
            "clock": lambda _: InlineClockCode(self._app, self.world.clock, self._state is None),
            **dict.fromkeys((one.kind for one in connectors()), self.world.client),
        }
        self._app.jobs.open = lambda kind, settings: InlineClient(self.world, os.getpid())
        topics = InlineTopics(self.world)
        self._app.topics.open = lambda kind, settings: topics
        use_registry(self._kept_metrics)
        self.stage = self.stage_class(clients, self._seed)
        self.stage.create(ROOT, "root")
        self._tell(Configure(plan, "root"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _playing
        stuck = [route for code in self._codes if code.is_stuck for route in code.routes]
        try:
            if kind is None:
                self._tell(Drain(10.0))
                self.stage.advance(10.0)
        finally:
            self.stage.close()
            _playing -= 1
            use_registry(None)
            self._set_state(self._kept)
            self._app.open_outlets(())
            self._app.jobs.open = open_client
            self._app.topics.open = open_topics
        raised = [error for code in self._codes for _, error in code.raised]
        unread = [error for error in raised if id(error) not in self._read]
        if kind is None and self._raise_errors and unread:
            raise unread[0] if len(unread) == 1 else BaseExceptionGroup("unread errors", unread)
        if kind is None and self._raise_errors and stuck:
            raise RuntimeError(
                f"route {', '.join(stuck)}: a handler or a start-up hook still waits for something"
                " else than time: a thread, or what nobody sets. In virtual time it needs a fake"
            )

    # ── what a test does ──────────────────────────────────────────────────────

    def deliver(
        self,
        queue: str,
        bodies: Iterable[Any],
        *,
        headers: Mapping[str, Any] | None = None,
        attempts: int = 0,
        redelivered: bool = False,
    ) -> list[Sent]:
        """Put messages into a queue and let the system work on them.

        A body of bytes is taken as it is, everything else becomes JSON. `attempts` is how
        often each was handed out before.
        """
        _check("queue", queue, self._queues)
        if isinstance(bodies, str | bytes | Mapping):
            raise TypeError(f"bodies must be a list of them, not one alone: [{bodies!r}]")
        Entry(b"", headers=headers).check()
        if not isinstance(attempts, int):
            raise TypeError(f"attempts must be a whole number, not {type(attempts).__name__}")
        delivered: list[Stored] = []
        for body in bodies:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            stored = Stored(data, str(next(self._ids)), dict(headers or {}))
            stored.attempts = max(attempts, int(redelivered))
            stored.redelivered = stored.attempts > 0
            self.world.put(queue, stored)
            delivered.append(stored)
        self.run_until_idle()
        return [Sent(stored) for stored in delivered]

    def advance(
        self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0
    ) -> None:
        """Let virtual time pass: flush timers, backoff, retries, `asyncio.sleep` of handlers."""
        check_seconds("seconds", seconds, MAX_DELAY)
        self.stage.advance(seconds + 60.0 * minutes + 3600.0 * hours + 86400.0 * days)

    @overload
    def send(self, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    @overload
    def send(self, task: type[TaskActor], *args: Any, **kwargs: Any) -> Job[Any]: ...

    def send(self, task: Any, *args: Any, **kwargs: Any) -> Job[Any]:
        """Put a job and let the system work on it; with options: `task.options(delay=60)`.

        Its `info_sync`, `status_sync` and `result_sync` say what became of it.
        """
        job: Job[Any] = task.send_sync(*args, **kwargs)
        self.run_until_idle()
        return job

    @overload
    def call(self, task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def call(self, task: type[TaskActor], *args: Any, **kwargs: Any) -> Any: ...

    def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a task as a caller outside of the system would: time passes until there is an
        outcome, `wait` seconds at the most. Returns and raises as `Task.call` does."""
        call = task.job(*args, **kwargs)
        ready = as_call(call.prepared)
        store = WorldJobs(self.world)
        (id,) = store.put([ready.new])
        self.run_until_idle()
        job: Job[Any] = self._app.jobs.of_task(call, id)
        until = self.stage.now + ready.wait
        while (info := job.info_sync()).status not in ENDED and self.stage.now < until:
            self.stage.advance(min(CALL_STEP_S, until - self.stage.now))
        if info.status not in (*ENDED, JobStatus.STARTED):
            store.cancel(id)
        return job.value_of(info)

    def cancel(self, job: Job[Any], *, stop: bool = False) -> JobStatus:
        """Cancel a job, and let the system answer; returns the status that it has then."""
        WorldJobs(self.world).cancel(job.id, stop=stop)
        self.run_until_idle()
        if job.info_sync().cancel_requested:
            self.stage.advance(1.0)
        return job.status_sync()

    def run_until_idle(self) -> None:
        """Let the system work until nothing is left to do at this moment."""
        self.stage.run_until_idle()

    def kill(self, role: str, when: When | None = None, times: int = 1) -> None:
        """Kill the actors of a role; with `when`, so many handlers, each at such a message."""
        _check("role", role, ROLES)
        if when is None:
            for name in self.stage.named(ROLES[role]):
                self.stage.kill(name, "killed by the test")
            self.run_until_idle()
        elif role == "handler":
            self._doomed += [when] * times
        else:
            raise ValueError(f"when: only a handler sees messages, a {role} does not")

    def disconnect(self) -> None:
        """Cut every connection; what is unsettled is delivered again after the backoff."""
        self.world.disconnect()
        self.run_until_idle()

    # ── what a test looks at ──────────────────────────────────────────────────

    def published(self) -> list[Sent]:
        """What handlers put into connections, in order, whether a route serves it or not."""
        return [Sent(stored) for stored in self.world.published]

    def dead(self, queue: str) -> list[Sent]:
        """The dead letters of a queue."""
        _check("queue", queue, self._queues)
        return [Sent(stored) for stored in self.world.dead.get(queue, ())]

    def errors(self, route: str) -> list[BaseException]:
        """What the handlers of a route raised; they count as read from now on."""
        _check("route", route, self._app.routes)
        errors = [error for code in self._codes for error in code.errors(route)]
        self._read.update(id(error) for error in errors)
        return errors

    def metric(self, name: str, **labels: str) -> float:
        """A number that was measured in this system, named as `/metrics` would name it; 0 where
        nothing was."""
        base = name if name in declared() else name.rpartition("_")[0] or name
        _check("metric", base, declared())
        return self._kept_metrics.sample(name, labels)

    def status(self) -> dict[str, Any]:
        """What `callboard status --json` would print; time passes where an actor is silent."""
        asked = len(self.stage.outbox)
        self._tell(ReportStatus())
        while not (answers := [m for m in self.stage.outbox[asked:] if isinstance(m, Status)]):
            self.advance(0.1)
        report: dict[str, Any] = json.loads(answers[0].report)
        return report

    # ── the inside ────────────────────────────────────────────────────────────

    def _tell(self, message: ActorMessage) -> None:
        self.stage.post("launcher", ROOT, message)
        self.run_until_idle()

    def _runner(self, settings: tuple[PipelinePlan, str]) -> ObservedCode:
        hooks = self._state is None
        code = self.code_class(self._app, *settings, self.world, self._doomed, hooks)
        self._codes.append(code)
        return code

    def _set_state(self, state: Mapping[str, Any]) -> None:
        self._app.frozen = False
        self._app.state.clear()
        self._app.state.update(state)


def _check(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ValueError(f"no {what} {name!r}; there are: {', '.join(sorted(known))}")
