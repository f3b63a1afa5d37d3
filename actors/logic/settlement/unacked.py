"""The deliveries that a connection answers for: ledgers by epoch, chunks by number, counts,
ages."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from actors.logic.bulks.bulk import Chunk
from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.ledger import Flush, Ledger


@dataclass(slots=True)
class Counts:
    """Since the connection actor began; `in_flight` and `oldest_s` are of this moment."""

    received: int = 0
    acked: int = 0
    rejected: int = 0
    requeued: int = 0
    retried: int = 0
    dead: int = 0
    last_error: str | None = None

    def settled(self, outcome: int, count: int) -> None:
        """So many deliveries got an outcome."""
        if outcome == Outcome.ACK:
            self.acked += count
        elif outcome == Outcome.REJECT:
            self.rejected += count
        elif outcome == Outcome.DEAD_LETTER:
            self.dead += count
        elif outcome in (Outcome.RETRY, Outcome.SNOOZE):
            self.retried += count
        else:
            self.requeued += count

    def report(
        self, name: str, in_flight: int, oldest: float, waiting: int | None = None
    ) -> dict[str, Any]:
        """As `callboard status --json` shows it; `waiting` where it was measured."""
        told = {"name": name, **asdict(self), "in_flight": in_flight, "oldest_s": round(oldest, 3)}
        return told if waiting is None else told | {"waiting": waiting}


#: Steps in which the patience of a world is divided; a delivery is taken for older by one of them.
STEPS = 100

#: The last position of deliveries that have waited for too long, by epoch.
Old = Mapping[int, int]


class Ages:
    """Marks of time and position: what came up to a position came at that time or later."""

    def __init__(self, step: float) -> None:
        self._step = step  #: seconds between two marks
        self._marks: deque[tuple[float, int]] = deque()

    def came(self, last: int, now: float) -> None:
        """Deliveries came, up to this position."""
        if self._marks and now - self._marks[-1][0] < self._step:
            self._marks[-1] = self._marks[-1][0], last
        else:
            self._marks.append((now, last))

    def settled(self, prefix: int) -> None:
        """All up to this position are settled."""
        while self._marks and self._marks[0][1] <= prefix:
            self._marks.popleft()

    def before(self, time: float) -> int:
        """The last position of those that came until then; 0: there is none."""
        return max((last for came, last in self._marks if came <= time), default=0)


def is_old(chunk: Chunk, old: Old) -> bool:
    """Whether all of a chunk has waited for too long: it came as one."""
    return chunk.last <= old.get(chunk.epoch, 0)


#: Rounds in which a batcher does not know a chunk before it is taken for lost.
MISSED_ROUNDS_MAX = 2


@dataclass(slots=True)
class SentChunk:
    """A chunk on its way, by what it holds."""

    ledger: Ledger
    epoch: int
    first: int
    last: int
    bytes: int
    at: float
    missed: int = 0  #: rounds; with the last of them it is given up

    @property
    def open(self) -> bool:
        """Whether a delivery of it waits for an outcome."""
        return any(self.ledger.open(self.first, self.last))


class SentChunks:
    """Numbers chunks from 1 for one batcher, and knows which of them are open."""

    def __init__(self) -> None:
        self.next = 1
        self.bytes = 0  #: of all that is open
        self._sent: dict[int, SentChunk] = {}

    def send(self, sent: SentChunk) -> int:
        """A chunk goes out; returns its number."""
        number = self.next
        self.next += 1
        self._sent[number] = sent
        self.bytes += sent.bytes
        return number

    def open_from(self) -> int:
        """Every chunk below this number is settled."""
        for number, sent in list(self._sent.items()):
            if sent.open:
                return number
            self._drop(number)
        return self.next

    def open(self) -> list[int]:
        """All that still waits for an outcome and is not given up."""
        for number, sent in list(self._sent.items()):
            if not sent.open:
                self._drop(number)
        return [number for number, sent in self._sent.items() if sent.missed < MISSED_ROUNDS_MAX]

    def __len__(self) -> int:
        return len(self._sent)

    def oldest(self) -> float | None:
        """When the first open chunk came."""
        number = self.open_from()
        return self._sent[number].at if number in self._sent else None

    def missing(self, known: set[int], waits_for: int, before: float) -> list[SentChunk]:
        """What got lost: the batcher, which waits for a certain number and knows these, has
        not known it for so many rounds and then refused it.

        What is given up may still arrive, until the batcher has heard of it and waits for a
        later one: only then can it come again on another way, and not twice.
        """
        lost: list[SentChunk] = []
        for number, sent in list(self._sent.items()):
            if number in known:
                sent.missed = 0
            elif sent.missed < MISSED_ROUNDS_MAX:
                sent.missed = sent.missed + 1 if sent.at <= before else 0
            elif number < waits_for:
                lost.append(sent)
                self._drop(number)
        return lost

    def end(self, epoch: int) -> None:
        """An epoch has ended: nothing of it can be settled any more."""
        for number in [n for n, sent in self._sent.items() if sent.epoch == epoch]:
            self._drop(number)

    def _drop(self, number: int) -> None:
        self.bytes -= self._sent.pop(number).bytes


@dataclass(slots=True)
class EpochAccount:
    """One epoch of one queue."""

    queue: str
    route: str
    window: int  #: the prefetch
    ages: Ages
    ledger: Ledger = field(default_factory=Ledger)


class Unacked:
    """The deliveries of all queues of one connection, from their arrival to their settlement."""

    def __init__(self) -> None:
        self.sent_chunks = SentChunks()
        self.counts: dict[str, Counts] = {}
        self.stale = 0  #: settlements of an epoch that has ended
        self.undecided = 0  #: deliveries that had no end of their own when their epoch ended
        self._accounts: dict[int, EpochAccount] = {}
        self._touched: set[int] = set()

    @property
    def unsettled(self) -> int:
        """Deliveries that the world still counts as ours."""
        return sum(account.ledger.unsettled for account in self._accounts.values())

    @property
    def open(self) -> bool:
        """Whether any delivery waits for an outcome."""
        return any(a.ledger.unsettled > a.ledger.decided for a in self._accounts.values())

    @property
    def is_republishing(self) -> bool:
        """Whether any delivery is being copied elsewhere."""
        return any(a.ledger.decided > a.ledger.held for a in self._accounts.values())

    def begin(
        self, epoch: int, queue: str, route: str, window: int, patience: float = math.inf
    ) -> None:
        """A queue is consumed on a new channel, in a world that lets a delivery be unsettled
        for so many seconds."""
        self._accounts[epoch] = EpochAccount(queue, route, window, Ages(patience / STEPS))
        self.counts.setdefault(route, Counts())

    def resize(self, epoch: int, window: int) -> None:
        """The window of an epoch is wider or narrower from now on."""
        if account := self._accounts.get(epoch):
            account.window = window

    def unsettled_of(self, epoch: int) -> int:
        """Deliveries of one epoch that the world still counts as ours."""
        account = self._accounts.get(epoch)
        return account.ledger.unsettled if account else 0

    def ages(self, epoch: int) -> Ages:
        """When that came which is unsettled in an epoch."""
        account = self._accounts[epoch]
        account.ages.settled(account.ledger.prefix)
        return account.ages

    def release(self, epoch: int, last: int) -> None:
        """Give back what is held of an epoch, up to a position."""
        if self._accounts[epoch].ledger.release(last):
            self._touched.add(epoch)

    def end(self, epoch: int) -> None:
        """The channel is gone, and with it all that could have been settled on it."""
        if account := self._accounts.pop(epoch, None):
            self.undecided += account.ledger.unsettled - account.ledger.held
            self.sent_chunks.end(epoch)
            self._touched.discard(epoch)

    def deliver(self, epoch: int, ends: int, size: int, now: float) -> tuple[int, int, bool] | None:
        """So many deliveries came; returns their chunk's number, the position of the first
        and whether the prefetch is spent. None: the epoch has ended."""
        account = self._accounts.get(epoch)
        if account is None:
            return None
        first = account.ledger.deliver(ends)
        self.counts[account.route].received += ends
        account.ages.settled(account.ledger.prefix)
        account.ages.came(account.ledger.last, now)
        sent = SentChunk(account.ledger, epoch, first, account.ledger.last, size, now)
        spent = account.ledger.unsettled >= account.window
        return self.sent_chunks.send(sent), first, spent

    def settle(self, epoch: int, first: int, last: int, outcome: int, attempts: int = 0) -> str:
        """Carry out an outcome that needs nothing else; returns the queue where any delivery was
        still open."""
        account = self._account(epoch)
        settled = 0
        if account:
            settled = account.ledger.settle(first, last, Outcome(outcome), attempts)
            self.counts[account.route].settled(outcome, settled)
            self._touched.add(epoch)
        return account.queue if account and settled else ""

    def queue_of(self, epoch: int) -> str:
        """The queue of an epoch that has not ended; empty: it has."""
        account = self._accounts.get(epoch)
        return account.queue if account else ""

    def may_hold(self, epoch: int) -> bool:
        """Whether another may wait here: what is held takes at most half the prefetch."""
        account = self._accounts.get(epoch)
        return account is None or account.ledger.held < max(1, account.window // 2)

    def hold(
        self, epoch: int, position: int, outcome: int, until: float, attempts: int = 0
    ) -> None:
        """Give back later, by REQUEUE or RETURN."""
        account = self._account(epoch)
        if account and account.ledger.hold(position, until, Outcome(outcome), attempts):
            self.counts[account.route].settled(outcome, 1)

    def decide(self, epoch: int, position: int, outcome: int) -> EpochAccount | None:
        """Claim a delivery that is to be copied elsewhere. None: it is not open."""
        account = self._account(epoch)
        if account is None or not account.ledger.decide(position):
            return None
        self.counts[account.route].settled(outcome, 1)
        return account

    def finish(self, epoch: int, position: int) -> None:
        """The copy is safe: acknowledge the original."""
        if account := self._accounts.get(epoch):
            account.ledger.finish(position, Outcome.ACK)
            self._touched.add(epoch)

    def postpone(
        self, epoch: int, position: int, outcome: int, until: float, attempts: int
    ) -> None:
        """There will be no copy: give the delivery back later, by REQUEUE or RETURN."""
        if account := self._accounts.get(epoch):
            account.ledger.postpone(position, until, Outcome(outcome), attempts)

    def blame(self, route: str, error: str) -> None:
        """The last thing that went wrong with a route's deliveries."""
        self.counts.setdefault(route, Counts()).last_error = error

    def dead_lettered(self, epoch: int, error: str) -> None:
        """A delivery that could not be handed on became a dead letter where it lay."""
        if account := self._accounts.get(epoch):
            counts = self.counts[account.route]
            counts.received += 1
            counts.settled(Outcome.DEAD_LETTER, 1)
            counts.last_error = error

    def due(self, now: float) -> None:
        """Give back what was held until now."""
        for epoch, account in self._accounts.items():
            if account.ledger.due(now):
                self._touched.add(epoch)

    def next_due(self) -> float | None:
        """When the next held delivery is due."""
        times = (account.ledger.next_due() for account in self._accounts.values())
        return min((time for time in times if time is not None), default=None)

    def give_back(self) -> int:
        """Return all that has no outcome, as what a handler may have had; returns how many."""
        returned = 0
        for epoch, account in self._accounts.items():
            count = account.ledger.return_open()
            self.counts[account.route].settled(Outcome.REQUEUE, count)
            self._touched.add(epoch)
            returned += count
        return returned

    def lose(self, sent: SentChunk) -> None:
        """The batcher knows nothing of a chunk. Its word may have come late, and a handler have
        had what was in it: that counts as an attempt."""
        self.settle(sent.epoch, sent.first, sent.last, Outcome.REQUEUE)

    def flushes(self) -> list[tuple[str, int, Flush]]:
        """What to tell the world now, as (queue, epoch, flush)."""
        flushes = []
        for epoch in self._touched:
            account = self._accounts[epoch]
            if flush := account.ledger.flush():
                flushes.append((account.queue, epoch, flush))
        self._touched.clear()
        return flushes

    def in_flight(self, route: str) -> int:
        """Unsettled deliveries of a route."""
        return sum(a.ledger.unsettled for a in self._accounts.values() if a.route == route)

    def _account(self, epoch: int) -> EpochAccount | None:
        account = self._accounts.get(epoch)
        if account is None:
            self.stale += 1
        return account
