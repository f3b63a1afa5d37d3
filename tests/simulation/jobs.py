"""Jobs under faults: the real actors and the real client on a real file, in virtual time.

J1  every job ends, and once the faults are over none waits
J2  a job's outcome is stored with the settlement of its message: neither is without the other
J3  a run has one effective end, and what a dead owner says has none
J4  a job that was canceled before it began never begins
J5  a job that may run once begins once
J6  a job is ended as late only where it ran for as long as it may
J7  a job that was stopped never runs again
J8  a unique key has one holder, and none that has ended
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from actors import App, JobContext, Retry, SpoolConnection, Unique
from actors.connectors.journal import NoJournal
from actors.connectors.spool import connection, jobs, owner
from actors.connectors.spool.connection import SpoolClient
from actors.connectors.spool.file import SpoolError, SpoolFile
from actors.connectors.spool.job_store import SpoolJobs
from actors.connectors.spool.schema import DEAD
from actors.logic.jobs.job import Status
from actors.logic.jobs.store import JobInfo
from actors.plan.build import build_plan
from actors.plan.plan import PipelinePlan
from actors.plan.settings import Settings
from actors.roles.port import ConnectionClient
from actors.roles.protocol import Configure, Failed
from actors.stages.memory import Died
from actors.stages.observed import Crash
from actors.tasks.client import ENDED
from actors.tasks.options import CallOptions
from actors.usercode.runner import InlineUserCode
from tests.simulation.faults import Faults
from tests.simulation.invariants import Witness
from tests.simulation.peer import Peer
from tests.simulation.stage import FaultyStage
from tests.simulation.stories import Broken

#: What a run may do besides returning.
ACTS = ("raise", "crash", "hang", "cling", "slow", "snooze", "retry", "fail")
#: Faults that have no place here.
WITHOUT = {"wrong clock", "lag", "small chunk", "cancel", "crash", "unfit", "half open", "stall"}
#: Virtual seconds in which all must be done once the faults are over.
BOUND = 900.0
#: Seconds of a run, and of one that was given more.
TIMEOUT, LONGER = 8.0, 30.0


class Story:
    """One job, as its caller and its runs know it."""

    def __init__(self, acts: list[str], *, once: bool, timeout: float) -> None:
        self.acts = acts
        self.once = once
        self.timeout = timeout
        self.begun: list[float] = []
        self.canceled = False  #: before it began, as its caller heard
        self.stopped = False  #: as its caller heard
        self.asked_again = False  #: by its last run


class Quiet(Witness):
    """A witness of what the stage itself can see: no two actors in one slot."""

    def __init__(self) -> None:
        """There is no scene."""

    def posted(self, sender: str, to: str, message: Any) -> None:
        """The file says all that counts."""

    def heard(self, name: str, event: Any) -> None:
        """The same."""

    def audit(self, connection: Any, now: float) -> None:
        """The same."""

    def died(self, handler: str) -> None:
        """The same."""


class JobFile(SpoolFile):
    """A file whose writes fail now and then, all of them or nothing."""

    faults: Faults
    peer: FilePeer

    @contextmanager
    def transaction(self, timeout: float = 5.0) -> Iterator[Any]:
        if self.peer.broken or not self.peer.reachable:
            self.peer.broken = False
            raise SpoolError("disk I/O error")
        with super().transaction(timeout) as at:
            yield at
            if self.faults.strikes("unconfirmed"):
                raise SpoolError("disk I/O error")


class FilePeer(Peer):
    """The file that the connection of a play works on."""

    def __init__(self, faults: Faults, random: Random) -> None:
        super().__init__(None, faults, Quiet(), random)  # type: ignore[arg-type]
        self.broken = False

    def client(self, plan: PipelinePlan) -> ConnectionClient:
        return SpoolClient(plan)

    def suffer(self, kind: str) -> None:
        self.broken = True

    def put(self, number: int, key: str, queue: str) -> None:
        """Callers put."""

    def give_up(self) -> None:
        """It waits for nobody."""

    def left(self) -> list[int]:
        return []


class JobCode(InlineUserCode):
    """Handlers that die where a job says so."""

    def turn(self, now: float) -> list[Any]:
        try:
            return super().turn(now)
        except Crash as crash:
            raise Died("as told") from crash


class JobPlay:
    """A system with tasks, its callers and its faults."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.faults = Faults(seed, WITHOUT)
        self.stories: dict[str, Story] = {}
        self.peer = FilePeer(self.faults, Random(seed + 1))
        self.seed = seed
        self.app = App()
        self.broken = ""
        self._declare()

    def _declare(self) -> None:
        app, random = self.app, self.random
        options: dict[str, Any] = {"timeout": TIMEOUT, "grace": 1.0}
        own = random.random() < 0.5
        options |= {"concurrency": random.choice((1, 2))} if own else {}

        @app.task(
            "work", retry=Retry(attempts=3, delays=[1, 2], jitter=False),
            in_flight=random.choice((1, 3)), **options,
        )  # fmt: skip
        async def work(ctx: JobContext, number: str) -> str:
            return await self._run(ctx, number)

        @app.task("once", at_most_once=True, **options)
        async def once(ctx: JobContext, number: str) -> str:
            return await self._run(ctx, number)

        @app.task("single", unique=Unique("{key}"), **options)
        async def single(ctx: JobContext, number: str, key: str) -> str:
            return await self._run(ctx, number)

    async def _run(self, ctx: JobContext, number: str) -> str:
        story = self.stories[number]
        now = self.stage.now
        story.begun.append(now)
        self.holds(not story.canceled, f"J4: {number} begins, and was canceled")
        self.holds(not story.stopped, f"J7: {number} begins, and was stopped")
        may = len(story.begun) == 1 or story.asked_again
        self.holds(not story.once or may, f"J5: {number} begins again")
        act = story.acts.pop(0) if story.acts else ""
        story.asked_again = act in ("snooze", "retry")
        match act:
            case "raise":
                raise RuntimeError("as told")
            case "crash":
                raise Crash("as told")
            case "hang":
                await asyncio.sleep(1e6)
            case "cling":
                try:
                    await asyncio.sleep(1e6)
                except asyncio.CancelledError:
                    await asyncio.sleep(1e6)
            case "slow":
                await asyncio.sleep(self.random.random() * (story.timeout - 2.0))
            case "snooze":
                ctx.snooze(2.0)
            case "retry":
                ctx.retry(1.0)
            case "fail":
                ctx.fail("as told")
        ctx.progress(1.0)
        return number

    def holds(self, condition: object, text: str) -> None:
        if not condition:
            self.broken = self.broken or text  # a task would only fail by it
            raise Broken(text)

    # ── the play ──────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Raises `Broken` where anything does not hold."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "spool.db"
            plan = build_plan(self.app, Settings(connections=(f"spool://{path}",)))
            pools = plan.pipelines[0].pools
            JobFile.faults, JobFile.peer = self.faults, self.peer
            clients: dict[str, Any] = {
                "spool": self.peer.client,
                "journal": NoJournal,
                "runner": lambda settings: JobCode(
                    self.app, pools[settings[1]], "spool", lambda: self.stage.now, False, (Crash,)
                ),
            }
            self.stage = FaultyStage(clients, self.seed, self.faults, self.peer, self.peer.witness)
            clock = SimpleNamespace(
                time=lambda: 1e9 + self.stage.now, monotonic=lambda: self.stage.now
            )
            with (
                mock.patch.object(connection, "SpoolFile", JobFile),
                mock.patch.object(connection, "time", clock),
                mock.patch.object(owner, "time", clock),
                mock.patch.object(jobs, "time", clock),
            ):
                self.store = SpoolJobs(SpoolConnection(str(path)).as_json("", {}))
                try:
                    self._play(plan)
                finally:
                    self.stage.close()
                    self.store.close()

    def _play(self, plan: Any) -> None:
        stage, random = self.stage, self.random
        stage.create("root#1", "root")
        stage.post("launcher", "root#1", Configure(plan, "root"))
        stage.run_until_idle()
        for _ in range(random.randint(2, 5)):
            for _ in range(random.randint(0, 6)):
                self._put()
            self.peer.round()
            stage.advance(random.choice((0.0, 0.1, 1.0, 5.0)))
            for number in random.sample(sorted(self.stories), min(2, len(self.stories))):
                if random.random() < 0.4:
                    self._cancel(number, stop=random.random() < 0.5)
            self._look()
        self.faults.end()
        self.peer.rest()
        end = stage.now + BOUND
        while left := [info for info in self._infos() if info.status not in ENDED]:
            if any(isinstance(message, Failed) for message in stage.outbox):
                raise Broken("J1: the system gave up")
            self.holds(stage.now < end, f"J1: left are {left}")
            stage.advance(5.0)
            self._look()
        for info in self._infos():
            self._judge(info)

    def _put(self) -> None:
        random = self.random
        task = random.choice(("work", "work", "once", "single"))
        number = f"n{len(self.stories) + 1}"
        longer = random.random() < 0.2
        acts = [random.choice(ACTS) for _ in range(3) if random.random() < 0.4]
        timeout = LONGER if longer else TIMEOUT
        options = CallOptions(
            id=number,
            delay=random.choice((0.0, 0.0, 3.0)),
            priority=random.choice((0, 5)),
            timeout=timeout if longer else None,
            expires=random.choice((None, None, 20.0)),
        )
        arguments = {"number": number}
        if task == "single":
            arguments["key"] = random.choice("xy")
        declared = self.app.tasks[task].declared
        prepared = self.app.jobs.new(declared, options, (), arguments)
        (id,) = self.store.put([prepared.new])
        if id == number:
            self.stories[number] = Story(acts, once=task == "once", timeout=timeout)
        else:
            holder = self.store.get(id)
            self.holds(
                holder and holder.status not in ENDED, f"J8: {id} has ended, and its key not"
            )

    def _cancel(self, number: str, *, stop: bool) -> None:
        info = self.store.cancel(number, stop=stop)
        if info and info.cancel_requested:
            self.stage.advance(1.0)
            info = self.store.get(number)
        story = self.stories[number]
        story.canceled |= bool(info and info.status is Status.CANCELED)
        story.stopped |= bool(info and info.status is Status.STOPPED)

    # ── what must hold ────────────────────────────────────────────────────────

    def _infos(self) -> list[JobInfo]:
        return [info for number in self.stories if (info := self.store.get(number))]

    def _look(self) -> None:
        with self.store._file.reading() as at:
            (alone,) = at.execute(
                "SELECT count(*) FROM job LEFT JOIN message USING (seq)"
                f" WHERE message.seq IS NULL AND job.status < {jobs.FINISHED}"
            ).fetchone()
            self.holds(not alone, f"J2: {alone} jobs lost their message before they ended")
            (kept,) = at.execute(
                "SELECT count(*) FROM job JOIN message USING (seq)"
                f" WHERE job.status = {jobs.FINISHED}"
            ).fetchone()
            self.holds(not kept, f"J2: {kept} finished jobs have a message that comes again")
            held = at.execute(
                "SELECT key, count(*) FROM job LEFT JOIN message USING (seq)"
                f" WHERE key IS NOT NULL AND job.status < {jobs.FINISHED}"
                f" AND message.state != {DEAD} GROUP BY key HAVING count(*) > 1"
            ).fetchall()
            self.holds(not held, f"J8: {held}")

    def _judge(self, info: JobInfo) -> None:
        story = self.stories[info.id]
        ends = Counter(run.ended for run in info.runs)
        own = [run for run in info.runs if run.worker]  # else its process could not tell
        self.holds(
            len(own) <= len(story.begun), f"J3: {info.id} ended more than it began: {info.runs}"
        )
        self.holds(ends.total() == len(ends), f"J3: {info.id} ended twice at once")
        if info.status is Status.FINISHED:
            self.holds(info.outcome == json.dumps(info.id).encode(), f"J3: {info.outcome!r}")
            self.holds(info.progress == 1.0, f"J3: {info.id} lost its last word")
        if info.error == "TimeoutError" and not self.faults.any_of({"hang"}):
            ran = (info.ended or 0.0) - 1e9 - story.begun[-1]
            self.holds(ran >= story.timeout - 0.1, f"J6: {info.id} ran {ran} of {story.timeout}")


def attempt(seed: int) -> str:
    """What does not hold; empty: all does."""
    play = JobPlay(seed)
    try:
        play.run()
    except Broken as broken:
        return play.broken or str(broken)
    return play.broken
