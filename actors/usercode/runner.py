"""The client of handlers and of the clock: runs user code and reports what came of it.

What is decided is the same in both ways of driving it: by a thread of its own in a real
system (`UserCode`, `ClockCode`), by its owner in virtual time in memory (`Inline…`).
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Self

from actors.api.app import App
from actors.errors import CallboardError
from actors.logic.jobs.job import Cancellation
from actors.logic.settlement.failure import describe
from actors.metrics import use_registry
from actors.plan.load import load
from actors.plan.plan import PipelinePlan, Plan, RoutePlan
from actors.roles.port import Ended, Started, StartFailed
from actors.roles.protocol import Bulk, Settlement
from actors.usercode.app import AppCode, log_failure
from actors.usercode.handlers import GATHER, HandlerCode, RouteCode
from actors.usercode.loops import Call, InlineLoop, Loop, ThreadLoop
from actors.usercode.metrics_registry import opened
from actors.usercode.outcomes import Share, ShareQueue, joined, returned, shares
from actors.usercode.process import boot_time, has_exit_functions, run_exit_functions
from actors.usercode.timers import TimerCode, open_lock

#: Threads for the `def` timers of an app.
TIMER_THREADS = 8

STATM = Path("/proc/self/statm")


class _Runner:
    """Starts and stops some code of an app on a loop, and tells its owner."""

    def __init__(self, code: AppCode, loop: Loop) -> None:
        self._code = code
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = ""  #: why the last start did

    def start(self) -> None:
        """`Started` or `StartFailed` follows; after the latter it may be called again."""
        self._loop.post(self._spawn, self._start)

    def stop(self) -> None:
        """`Ended` follows once all that is to be done at the end is done, or is given up."""
        self._loop.post(self._spawn, self._stop)

    def fileno(self) -> int:
        return self._loop.fileno()

    def deadline(self) -> float | None:
        return self._loop.deadline()

    def turn(self, now: float) -> list[Any]:
        return self._loop.turn(now)

    def close(self) -> None:
        self._code.closing = True
        self._loop.close()

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        task = asyncio.ensure_future(function(*args))
        self._tasks.add(task)  # the loop itself keeps weak references only
        task.add_done_callback(self._tasks.discard)

    async def _start(self) -> None:
        error = await self._code.failure(self._code.start)
        if error is None:
            self._failed = ""
            self._loop.report(Started())
            return
        cause = f"{self._code.place}{describe(error)}"
        if cause != self._failed and not issubclass(type(error), CallboardError):
            log_failure(f"start failed: {cause}", error)
        self._failed = cause
        self._loop.report(StartFailed(cause))

    async def _stop(self) -> None:
        cause = await self._code.stop()
        if has_exit_functions():
            cause = await self._code.guarded("what atexit runs", run_exit_functions) or cause
        self._loop.report(Ended(cause))


class _HandlerRunner(_Runner):
    """… and runs bulks, so many at once."""

    _code: HandlerCode

    def __init__(
        self,
        source: Callable[[], App],
        plans: Sequence[RoutePlan],
        kind: str,
        loop: Loop,
        hooks: bool = True,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        routes = [
            RouteCode(plan.name, kind, call, call if plan.serial else loop.caller(0), loop.watch)
            for plan, call in zip(plans, _calls(plans, loop), strict=True)
        ]
        super().__init__(HandlerCode(source, loop.caller(0), routes, hooks), loop)
        turns = {plan.row: asyncio.Lock() for plan in plans}
        self._turns = {plan.name: turns[plan.row] for plan in plans if plan.in_flight == 1}
        # Of routes that run several bulks at once: how many more, what waits, what runs.
        self._free = {plan.name: plan.in_flight for plan in plans}
        self._waiting: dict[str, deque[Share]] = {plan.name: deque() for plan in plans}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._clock = clock
        self._recalled: Collection[int] = ()  # bulks that are not to be begun
        self._canceled: set[int] = set()  # the same of jobs
        self._queues: list[ShareQueue] = []  # of messages that came, by what is not begun
        self._leased = inf
        self._renewed = asyncio.Event()

    def submit(self, bulk: Bulk) -> None:
        """Run each bulk in it; a `Settlement` follows for all that a turn finds done."""
        self._loop.post(self._submit, bulk)

    def lease(self, until: float) -> None:
        self._leased = until
        self._loop.post(self._renewed.set)

    def recall(self, numbers: Collection[int]) -> None:
        # No call on the loop: it may be busy until the next bulk begins. A word stands for those
        # before it, for what is not answered is recalled again.
        self._recalled = frozenset(numbers)
        self._take_back(self._recalled)

    def cancel(self, jobs: Collection[Cancellation]) -> None:
        for job in jobs:
            if self._loop.watch.has(job.number):
                if job.stop:
                    self._loop.watch.stop(job.number)
            else:
                self._canceled.add(job.number)
        self._take_back(self._canceled)

    def _take_back(self, numbers: Collection[int]) -> None:
        """Return at once what waits for its turn: the loop may be busy for long."""
        for waiting in list(self._queues):
            if taken := waiting.take_back(numbers):
                self._loop.tell(joined([returned(share) for share in taken]))

    def memory(self) -> int:
        """Bytes of memory that this process holds; outside Linux, the most that it ever held."""
        try:
            return int(STATM.read_text().split()[1]) * resource.getpagesize()
        except OSError:
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most if sys.platform == "darwin" else most * 1024

    def turn(self, now: float) -> list[Any]:
        events = super().turn(now)
        answers = [event for event in events if isinstance(event, Settlement)]
        if len(answers) < 2:
            return events
        first = events.index(answers[0])
        rest = [event for event in events[first:] if not isinstance(event, Settlement)]
        return [*events[:first], joined(answers), *rest]

    def _submit(self, bulk: Bulk) -> None:
        if bulk.route in self._turns:
            self._spawn(self._handle_all, bulk)
        else:
            self._waiting[bulk.route].extend(shares(bulk))
            self._begin(bulk.route)

    async def _handle_all(self, bulk: Bulk) -> None:
        """One by one; where they take next to nothing, their answers go together."""
        clock = asyncio.get_running_loop().time
        done: list[Settlement] = []
        waiting = ShareQueue(shares(bulk))
        self._queues.append(waiting)
        async with self._turns[bulk.route]:
            told = clock()
            while first := waiting.first:
                if self._is_withdrawn(first):
                    done += map(returned, waiting.take_back((first,)))
                    continue
                if self._expired:
                    if done:
                        self._loop.report(joined(done))
                        done = []
                    await self._permitted()
                done += await self._code.handle(bulk.route, waiting)
                if clock() - told >= GATHER:
                    self._loop.report(joined(done))
                    done, told = [], clock()
        self._queues.remove(waiting)
        if done:
            self._loop.report(joined(done))

    def _is_withdrawn(self, number: int) -> bool:
        """Whether a bulk is not to be begun."""
        if number in self._canceled:
            self._canceled.discard(number)
            return True
        return number in self._recalled

    @property
    def _expired(self) -> bool:
        return self._leased < inf and self._clock() >= self._leased

    async def _permitted(self) -> None:
        """Wait for as long as what is here may have been handed out elsewhere: until the lease is
        renewed, or this process is killed."""
        while self._expired:
            self._renewed.clear()
            await self._renewed.wait()

    def _begin(self, route: str) -> None:
        waiting = self._waiting[route]
        while waiting and self._free[route]:
            self._free[route] -= 1
            share = waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._handle(route, share))
            self._running[share.number] = task

    async def _handle(self, route: str, share: Share) -> None:
        await self._permitted()
        if self._is_withdrawn(share.number):
            self._loop.report(returned(share))
        else:
            (done,) = await self._code.handle(route, ShareQueue([share]))
            self._loop.report(done)
        del self._running[share.number]
        self._free[route] += 1
        self._begin(route)


class UserCode(_HandlerRunner):
    """The handlers of a pool, in a thread of their own. Settings: the pipeline's plan, the pool."""

    def __init__(self, settings: tuple[PipelinePlan, str]) -> None:
        pipeline, pool = settings
        loop = ThreadLoop(f"handler {pool}")
        super().__init__(partial(_app_of, pipeline), pipeline.pools[pool], pipeline.kind, loop)

    @classmethod
    def for_routes(cls, app: App, plans: Sequence[RoutePlan], kind: str) -> Self:
        """The same for an app that is at hand."""
        runner = cls.__new__(cls)
        _HandlerRunner.__init__(runner, lambda: app, plans, kind, ThreadLoop("handler"))
        return runner


class InlineUserCode(_HandlerRunner):
    """The handlers of a pool on their owner's thread, while it is turned, in virtual time.

    `hooks=False` leaves out the startup and shutdown hooks. A `lethal` exception of the
    user's code is the death of the process: it is raised by `turn`, and no bulk answered.
    """

    def __init__(
        self,
        app: App,
        plans: Sequence[RoutePlan],
        kind: str,
        clock: Callable[[], float],
        hooks: bool = True,
        lethal: tuple[type[BaseException], ...] = (),
    ) -> None:
        super().__init__(lambda: app, plans, kind, InlineLoop(clock), hooks, clock)
        self._lethal = self._loop.watch.lethal = lethal
        #: All that the user's code raised so far, with the route whose handler it was.
        self.raised: list[tuple[str, BaseException]] = []
        self._code.raised = self.raised

    @property
    def is_stuck(self) -> bool:
        """User code waits, and not for a time to come: what it waits for is no part of this."""
        return bool(self._tasks or self._running) and self._loop.deadline() is None

    def turn(self, now: float) -> list[Any]:
        events = super().turn(now)
        for _, error in self.raised:
            if issubclass(type(error), self._lethal):
                raise error
        return events


class _ClockRunner(_Runner):
    """… and calls the app back."""

    _code: TimerCode

    def connection_failed(self, connection: str, cause: str, fault: str, retries: int) -> None:
        self._loop.post(
            self._spawn, self._code.connection_failed, connection, cause, fault, retries
        )


class ClockCode(_ClockRunner):
    """The timers of an app, in a thread of their own."""

    def __init__(self, settings: Plan) -> None:
        loop = ThreadLoop("clock")
        call, beside = loop.caller(0), loop.caller(TIMER_THREADS)
        locks = partial(open_lock, settings)
        code = TimerCode(partial(_app_of, settings), call, beside, locks=locks)
        super().__init__(code, loop)


class InlineClockCode(_ClockRunner):
    """The timers of an app on their owner's thread, in virtual time, and alone."""

    def __init__(self, app: App, clock: Callable[[], float], hooks: bool = True) -> None:
        loop = InlineLoop(clock)
        code = TimerCode(lambda: app, loop.caller(0), loop.caller(0), hooks)
        super().__init__(code, loop)
        #: All that the user's code raised so far.
        self.raised: list[tuple[str, BaseException]] = []
        code.raised = self.raised


def _calls(plans: Sequence[RoutePlan], loop: Loop) -> Iterator[Call]:
    """How each handler is called: `def` ones that take turns on the loop's thread, but in a
    thread beside it where that would keep others from running; what runs several bulks at
    once in threads of its own."""
    beside = any(not plan.serial for plan in plans) and any(plan.serial for plan in plans)
    in_turn = loop.caller(int(beside))
    for plan in plans:
        if plan.serial:
            yield in_turn
        else:
            yield loop.caller(plan.in_flight if plan.in_flight > 1 else 0)


def _app_of(plan: PipelinePlan | Plan) -> App:
    """The app, its connections where the plan has them, its metrics where the system has."""
    use_registry(opened())
    app = load(plan.app)
    app.open_outlets(plan.outlets)
    return app
