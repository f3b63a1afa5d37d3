"""The world in memory: queues that deliver, take back and forget as brokers and spools do."""

from __future__ import annotations

import heapq
import itertools
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from actors.api.options import Actions
from actors.connectors.memory.wire import Stored, Wire, fetched
from actors.errors import Fault
from actors.logic.jobs.job import Answer, Claimed, Conclusion, Ending, Job, Progress, killed
from actors.logic.jobs.jobs import Jobs
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import (
    CancelRequested,
    Consuming,
    Depth,
    Fetched,
    Lost,
    Opened,
    Patient,
    QueueLost,
    Republish,
    Republished,
    RepublishFailed,
    Stopped,
)


class World:
    """All queues of all connections of one system."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.reachable = True  #: whether a connection can be made
        self.storing = True  #: whether copies are taken: dead letters, retries
        self.missing: set[str] = set()  #: queues that cannot be consumed
        self.queues: dict[str, deque[Stored]] = {}
        self.dead: dict[str, list[Stored]] = {}
        self.published: list[Stored] = []  #: by handlers
        self.clients: dict[str, WorldClient] = {}  #: the living one of each pipeline
        self.jobs = Jobs()
        self._later: list[tuple[float, int, str, Stored]] = []
        self._order = itertools.count()

    def client(self, plan: PipelinePlan) -> WorldClient:
        """A connection to this world."""
        self.clients[plan.name] = WorldClient(self, plan)
        return self.clients[plan.name]

    def put(self, queue: str, message: Stored, delay: float = 0.0) -> None:
        """Store a message at the tail of a queue, now or after so many seconds."""
        if delay > 0:
            due = self.clock() + delay
            heapq.heappush(self._later, (due, next(self._order), queue, message))
        else:
            self.queues.setdefault(queue, deque()).append(message)

    def ripen(self) -> None:
        """Put into their queues what was delayed until now."""
        while self._later and self._later[0][0] <= self.clock():
            _, _, queue, message = heapq.heappop(self._later)
            self.queues.setdefault(queue, deque()).append(message)

    def next_ripe(self) -> float | None:
        """When the next delayed message is due, or a job."""
        times = [self._later[0][0]] if self._later else []
        if (due := self.jobs.next_due()) is not None and due > self.clock():
            times.append(due)
        return min(times, default=None)

    def hand_out(self, pipeline: str, epoch: int, first: int, count: int) -> list[Stored]:
        """The messages behind receipts that a handler gets now."""
        client = self.clients.get(pipeline)
        if client is None or epoch not in client.channels:
            return []
        unsettled = client.channels[epoch].unsettled
        found = [unsettled[p] for p in range(first, first + count) if p in unsettled]
        for message in found:
            message.handed_out += 1
        return found

    def disconnect(self, cause: str = "the connection was cut") -> None:
        """Every connection breaks; what was unsettled goes back."""
        for client in list(self.clients.values()):
            client.fail(cause)

    def lose_queue(self, queue: str, cause: str, fault: str = Fault.UNREACHABLE) -> None:
        """The broker ends every channel of a queue; what was unsettled goes back."""
        for client in self.clients.values():
            client.lose_queue(queue, cause, fault)


@dataclass(slots=True)
class Channel:
    """One epoch of one queue."""

    queue: str
    window: int
    last: int = 0
    unsettled: dict[int, Stored] = field(default_factory=dict)
    republishing: set[int] = field(default_factory=set)  #: copied elsewhere, not yet acknowledged
    stopped: bool = False
    answers: dict[int, Answer] = field(default_factory=dict)  #: of jobs, until they are settled

    @property
    def room(self) -> int:
        return 0 if self.stopped else self.window - len(self.unsettled) - len(self.republishing)

    def take(self, position: int) -> Stored:
        """End a delivery, which is possible once."""
        if position not in self.unsettled:
            raise LookupError(f"{self.queue}: delivery {position} is settled a second time")
        return self.unsettled.pop(position)


class WorldClient(Patient):
    """A `ConnectionClient` of a world in memory."""

    def __init__(self, world: World, plan: PipelinePlan) -> None:
        self.channels: dict[int, Channel] = {}  #: by epoch
        self._world = world
        self._name = plan.name
        self._wire = Wire(plan.kind)
        self._tasks = {queue for route in plan.routes if route.tasks for queue in route.queues}
        self._limits: dict[tuple[str, ...], int] = {}
        self._owner = f"{plan.name}#{id(self)}"  # of jobs
        self._asked: set[tuple[str, int, bool, bool]] = set()
        self._open = False
        self._events: list[Any] = []

    def fileno(self) -> int:
        return -1

    def deadline(self) -> float | None:
        return self._world.next_ripe()

    def turn(self, now: float) -> list[Any]:
        self._world.ripen()
        for epoch, channel in self.channels.items():
            if chunk := self._fetch(epoch, channel, self._room(channel)):
                self._events.append(chunk)
        if self._tasks:
            self._look_at_jobs()
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self._give_back(list(self.channels))
        if self._world.clients.get(self._name) is self:
            del self._world.clients[self._name]

    # ── the port ──────────────────────────────────────────────────────────────

    def open(self) -> None:
        self._open = self._world.reachable
        event = Opened("memory") if self._open else Lost("nobody answers")
        self._events.append(event)

    def consume(self, queue: str, epoch: int, window: int, alone: int = 0) -> None:
        if queue in self._world.missing:
            self._events.append(QueueLost(queue, epoch, f"no queue {queue!r}", Fault.MISSING))
            return
        self.channels[epoch] = Channel(queue, window)
        self._world.queues.setdefault(queue, deque())
        self._events.append(Consuming(queue, epoch))

    def cancel(self, queue: str, epoch: int) -> None:
        if channel := self.channels.get(epoch):
            channel.stopped = True
            self._events.append(Stopped(queue, epoch))

    def resume(self, queue: str, epoch: int) -> None:
        if channel := self.channels.get(epoch):
            channel.stopped = False
            self._events.append(Consuming(queue, epoch))

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        channel = self.channels.get(epoch)
        if channel is None:
            return
        told = dict(flush.told)
        for position in sorted((*flush.failed, *flush.returned), reverse=True):
            message = channel.take(position)
            if message.claim:
                is_failed = position in flush.failed
                message.actions += [Actions.REQUEUE] if is_failed else []
                self._give_back_job(message.claim, is_dead=is_failed)
                continue
            if position in flush.failed:
                message.actions.append(Actions.REQUEUE)
            else:
                message.attempts -= self._wire.counts
            if self._wire.counts and position in told:
                message.attempts = told[position]
            message.redelivered = True
            self._world.queues[queue].appendleft(message)
        for position in flush.rejected:
            channel.take(position).actions.append(Actions.REJECT)
        for position in (p for first, last in flush.acked for p in range(first, last + 1)):
            if position in channel.republishing:
                channel.republishing.remove(position)
            else:
                message = channel.take(position)
                message.actions.append(Actions.ACK)
                if message.claim:
                    answer = channel.answers.pop(position, Answer())
                    self._conclude(message.claim, Ending.FINISHED, answer)

    def republish(self, request: Republish) -> None:
        channel = self.channels.get(request.epoch)
        if channel is None:
            return
        if not self._world.storing:
            self._events.append(RepublishFailed(request.token, "copies are refused"))
            return
        message = channel.take(request.position)
        channel.republishing.add(request.position)
        message.reason, message.redelivered = request.reason, False
        if message.claim and request.reply:
            message.actions.append(Actions.ACK)
            self._conclude(message.claim, Ending.FINISHED, request.answer or Answer())
        elif message.claim:
            self._move_job(message, message.claim, request)
        elif request.dead:
            message.actions.append(Actions.DEAD_LETTER)
            self._world.dead.setdefault(request.queue, []).append(message)
        else:
            message.actions.append(Actions.REQUEUE)
            message.attempts = request.attempts
            self._world.put(request.queue, message, request.delay)
        self._events.append(Republished(request.token))

    def measure(self, queue: str) -> None:
        self._events.append(Depth(queue, len(self._world.queues.get(queue, ()))))

    def widen(self, queue: str, epoch: int, window: int) -> None:
        if channel := self.channels.get(epoch):
            channel.window = window

    def limit(self, queues: tuple[str, ...], most: int) -> None:
        self._limits[queues] = most

    def begin(self, queue: str, epoch: int, positions: tuple[int, ...], worker: str) -> None:
        for claim in self._claims(epoch, positions):
            now = self._world.clock()
            self._world.jobs.note_begin(claim.id, self._owner, claim.number, worker, now)

    def report(self, queue: str, epoch: int, position: int, progress: Progress) -> None:
        for claim in self._claims(epoch, (position,)):
            self._world.jobs.report(claim.id, self._owner, claim.number, *progress)

    def notify(self, request: bytes, worker: str, progress: Progress | None) -> None:
        """Callers look at the jobs themselves."""

    def conclude(self, queue: str, epoch: int, position: int, answer: Answer) -> None:
        if channel := self.channels.get(epoch):
            channel.answers[position] = answer

    def shut(self) -> None:
        self.fail("")

    # ── jobs ──────────────────────────────────────────────────────────────────

    def _claims(self, epoch: int, positions: tuple[int, ...]) -> list[Claimed]:
        channel = self.channels.get(epoch)
        held = channel.unsettled if channel else {}
        return [c for p in positions if p in held and (c := held[p].claim) is not None]

    def _room(self, channel: Channel) -> int:
        """Room of a queue, beside those that share its limit."""
        room = channel.room
        for queues, most in self._limits.items():
            if channel.queue in queues:
                others = [one for one in self.channels.values() if one.queue in queues]
                room = min(room, most - sum(len(one.unsettled) for one in others))
        return room

    def _look_at_jobs(self) -> None:
        """Pass on what people ask of jobs in hand; here, nothing of it gets lost."""
        self._world.jobs.sweep(self._world.clock())
        for job in self._world.jobs.asked(self._owner):
            word = (job.id, job.number, job.cancel_requested, job.stop_requested)
            if word in self._asked:
                continue
            self._asked.add(word)
            for epoch, channel in self.channels.items():
                for position, message in channel.unsettled.items():
                    if message.claim and message.claim.id == job.id:
                        event = CancelRequested(channel.queue, epoch, position, job.stop_requested)
                        self._events.append(event)

    def _conclude(self, claim: Claimed, ending: Ending, answer: Answer, delay: float = 0.0) -> None:
        conclusion = Conclusion(
            claim.id, self._owner, claim.number, ending, answer.outcome, answer.error, delay,
            answer.progress, answer.seconds, answer.worker,
        )  # fmt: skip
        self._world.jobs.conclude(conclusion, self._world.clock())

    def _move_job(self, message: Stored, claim: Claimed, request: Republish) -> None:
        job = self._world.jobs.get(claim.id, self._world.clock())
        answer = request.answer or killed(
            request.error, request.reason, is_stopping=bool(job and job.stop_requested)
        )
        if request.dead:
            message.actions.append(Actions.DEAD_LETTER)
            ending = Ending.STOPPED if answer.is_stopped else Ending.FAILED
            self._conclude(claim, ending, answer)
        else:
            message.actions.append(Actions.REQUEUE)
            snoozed = request.attempts < claim.attempt or not answer.error
            ending = Ending.SNOOZE if snoozed else Ending.RETRY
            self._conclude(claim, ending, answer, request.delay)

    def _give_back_job(self, claim: Claimed, *, is_dead: bool) -> None:
        now = self._world.clock()
        self._world.jobs.give_back(claim.id, self._owner, claim.number, now, is_dead=is_dead)

    # ── what befalls it ───────────────────────────────────────────────────────

    def fail(self, cause: str) -> None:
        """The connection ends."""
        self._give_back(list(self.channels))
        if self._open:
            self._open = False
            self._events = [Lost(cause)]

    def lose_queue(self, queue: str, cause: str, fault: str) -> None:
        """The channels of a queue end."""
        ended = [epoch for epoch, channel in self.channels.items() if channel.queue == queue]
        self._give_back(ended)
        self._events += [QueueLost(queue, epoch, cause, fault) for epoch in ended]

    def _give_back(self, epochs: list[int]) -> None:
        for epoch in epochs:
            channel = self.channels.pop(epoch)
            for message in reversed(channel.unsettled.values()):
                if message.claim:
                    self._give_back_job(message.claim, is_dead=True)
                    continue
                message.redelivered = True
                self._world.queues[channel.queue].appendleft(message)

    def _fetch(self, epoch: int, channel: Channel, room: int) -> Fetched | None:
        queue = self._world.queues[channel.queue]
        deliveries: list[tuple[bytes, int]] = []
        first = channel.last + 1
        if channel.queue in self._tasks and room > 0:
            now = self._world.clock()
            for claim in self._world.jobs.claim(channel.queue, self._owner, room, now):
                message = _of_job(claim, self._world.jobs.get(claim.id, now))
                channel.last += 1
                channel.unsettled[channel.last] = message
                deliveries.append(self._wire.delivery(channel.queue, channel.last, message))
        while queue and len(deliveries) < room:
            message = queue.popleft()
            channel.last += 1
            channel.unsettled[channel.last] = message
            deliveries.append(self._wire.delivery(channel.queue, channel.last, message))
            message.attempts += self._wire.counts
        return fetched(channel.queue, epoch, first, deliveries) if deliveries else None


def _of_job(claim: Claimed, job: Job | None) -> Stored:
    """The message of a job, as its store gives it."""
    headers = json.loads(job.new.headers) if job else {}
    if claim.meta != b"{}":
        headers["x-callboard-meta"] = json.loads(claim.meta)
    stored = Stored(claim.body, claim.id, headers, attempts=claim.attempt - 1, claim=claim)
    stored.reply_to = "caller" if job and job.new.is_call else ""
    stored.redelivered = stored.attempts > 0
    return stored
