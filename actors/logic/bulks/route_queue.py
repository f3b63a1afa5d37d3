"""The waiting deliveries of one route, and the search for the message that kills its process."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from actors.logic.bulks.batching import Batching
from actors.logic.bulks.bulk import Chunk, Draft, Handed, Slice
from actors.logic.bulks.ordering import Ordering
from actors.logic.settlement.unacked import Old, is_old


class Suspects:
    """Bulks that were in a process that died, until they are cleared.

    They run one at a time in a process with nothing else in it. One that dies again is
    halved; only a crash of a message wholly alone counts against it.
    """

    def __init__(self, max_crashes: int) -> None:
        self._max_crashes = max_crashes
        self._waiting: deque[Draft] = deque()
        self._crashes: Counter[tuple[int, int]] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def died(self, drafts: list[Draft], *, alone: bool) -> list[Draft]:
        """These were in a process when it died, where `alone` one with nothing else in it;
        returns what is found guilty."""
        if not alone:
            for draft in drafts:
                self.quarantine(draft)
            return []
        (draft,) = drafts
        if draft.size > 1:
            self.defer([*draft.halves()])
            return []
        ((chunk, index),) = draft.deliveries()
        receipt = chunk.epoch, chunk.first + index
        self._crashes[receipt] += 1
        if self._crashes[receipt] >= self._max_crashes:
            del self._crashes[receipt]
            return drafts
        self._waiting.appendleft(Draft(draft.parts, alone=True))
        return []

    def quarantine(self, draft: Draft) -> None:
        """It was not alone in a process that died: it is to run alone, in its turn."""
        self._waiting.append(Draft(draft.parts, alone=True))

    def defer(self, drafts: list[Draft]) -> None:
        """These run next, each alone."""
        self._waiting.extendleft(reversed(drafts))

    def next(self) -> Draft | None:
        """The next to run alone."""
        return self._waiting.popleft() if self._waiting else None

    def forget(self, draft: Draft) -> None:
        """Its crashes count no more: it was answered, or it will come again."""
        for chunk, index in draft.deliveries():
            self._crashes.pop((chunk.epoch, chunk.first + index), None)

    def drop(self, queue: str, epoch: int) -> list[Slice]:
        """Take out what came before an epoch of a queue: it will come again."""
        dropped: list[Slice] = []
        for draft in self._waiting:
            gone = [p for p in draft.parts if p.chunk.queue == queue and p.chunk.epoch < epoch]
            draft.parts = [part for part in draft.parts if part not in gone]
            dropped += gone
        self.forget(Draft(dropped))
        self._waiting = deque(draft for draft in self._waiting if draft.parts)
        return dropped


#: In the place of an overdue bulk: none that a handler held is to blame for its death.
NO_BULK = -1


@dataclass(slots=True)
class Losses:
    """The deliveries that a handler's death leaves to decide; the rest is handed out again."""

    crashed: list[tuple[Chunk, int]] = field(default_factory=list)  #: alone too often
    timed_out: list[tuple[Chunk, int]] = field(default_factory=list)  #: held it for too long


class RouteQueue:
    """The waiting deliveries of one route, in the order in which they go out.

    In order: bulks that lost their process through no fault of their own, then what the
    batching says is due. Suspects go one at a time to a process with nothing else in it.
    """

    def __init__(
        self,
        name: str,
        batching: Batching | Ordering,
        in_flight: int,
        timeout: float,
        max_crashes: int,
        *,
        row: str | None = None,  # one that it shares with others; None: its own
        timeout_is_final: bool = False,  # what befalls a late message is the end of it
        jobs: bool = False,  # no message waits behind another that takes long
        at_most_once: bool = False,  # what was begun in a process that died never runs again
    ) -> None:
        self.name = name  #: of the route
        self.row = name if row is None else row  #: in a handler, where bulks take turns
        self.batching = batching
        self.in_flight = in_flight  #: bulks at once in a handler
        self.timeout = timeout  #: seconds
        self.in_hand = 0  #: bulks at handlers, counted by who gives them
        self.spent: set[str] = set()  #: queues of which no more comes before a settlement
        self.jobs = jobs
        self.at_most_once = at_most_once
        self.hurried = False  #: what waits for its bulk to fill is not to wait any more
        self._timeout_is_final = timeout_is_final
        self._suspects = Suspects(max_crashes)
        self._blameless: deque[Draft] = deque()
        self._epochs: dict[str, int] = {}  # by queue; those before have ended

    def add(self, chunk: Chunk, now: float) -> None:
        """Put a chunk in the queue; what may have killed a worker is to run alone, one by one."""
        self.batching.add(chunk, now)
        if not isinstance(self.batching, Ordering):  # which keeps them in their keys' queues
            for index in sorted(chunk.suspected):
                self._suspects.quarantine(Draft([Slice(chunk, index, index + 1)]))

    def bring_suspects(self, now: float) -> None:
        """Take the suspects of an ordered route whose turn it is out of their keys' queues."""
        if isinstance(self.batching, Ordering):
            for draft in self.batching.suspects(now):
                self._suspects.quarantine(draft)

    @property
    def ordered(self) -> bool:
        """Messages of one key go one after another."""
        return isinstance(self.batching, Ordering)

    @property
    def suspected(self) -> bool:
        """A suspect waits."""
        return bool(self._suspects)

    def has_work(self, now: float, flush: bool) -> bool:
        """Whether it may have a bulk for somebody: cheap, for most routes of many have none."""
        if self._blameless or self._suspects:
            return True
        if flush or self._exhausted:
            return self.batching.size > 0
        return self.batching.ready(now)

    def take(self, now: float, flush: bool) -> Draft | None:
        """The next bulk for a handler that has others as well."""
        flush = flush or self._exhausted
        while draft := self._next(now, flush):
            if not draft.alone:
                return draft
            self._suspects.quarantine(draft)  # of an ordered route: it waited in its key's queue
        return None

    def next_suspect(self) -> Draft | None:
        """The next bulk for a handler that has no other."""
        draft = self._suspects.next()
        if draft is None:
            return None
        first, *rest = draft.apart(self.batching.last_alone)
        self._suspects.defer(rest)
        return first

    def answered(self, draft: Draft) -> None:
        """A bulk in hand has its settlement."""
        self.in_hand -= 1
        if draft.alone:
            self._suspects.forget(draft)
        self._let_go([part for part in draft.parts if self._ended(part)])

    def lose(self, bulks: list[Handed], overdue: int, now: float, *, alone: bool) -> Losses:
        """A process that held these bulks is dead, and held no other where they were `alone`;
        `overdue` is the bulk, of this line or another, that it was killed for, or 0."""
        self.in_hand -= len(bulks)
        losses = Losses()
        drafts = [handed.draft for handed in bulks]
        for draft in drafts:
            draft.count_attempt()
        if self.at_most_once:
            late = [handed.draft for handed in bulks if handed.number == overdue]
            losses.timed_out = self._living(late)
            losses.crashed = self._living([draft for draft in drafts if draft not in late])
            return losses
        if overdue:  # it was killed: that says nothing of what else was in it
            late = [handed.draft for handed in bulks if handed.number == overdue]
            for draft in late:
                self._suspects.forget(draft)
            self._return([draft for draft in drafts if draft not in late], now)
            losses.timed_out = self._living(self._separate(late, now))
        else:
            losses.crashed = self._living(self._quarantine(drafts, now, alone))
        for queue, epoch in self._epochs.items():
            self.drop(queue, epoch)
        return losses

    def drop(self, queue: str, epoch: int) -> None:
        """What came before an epoch of a queue will come again, and is not handed out twice."""
        self._epochs[queue] = epoch
        self.batching.drop(queue, epoch)
        self._let_go(self._suspects.drop(queue, epoch))
        for draft in self._blameless:
            self._let_go(part for part in draft.parts if self._ended(part))
            draft.parts = [part for part in draft.parts if not self._ended(part)]
        self._blameless = deque(draft for draft in self._blameless if draft.parts)

    def recall(self, old: Old) -> list[tuple[Chunk, int, bool]]:
        """Take out what has waited for too long, as (chunk, index, failed); suspects stay, for
        only here is it known what they are suspected of. What lost its process through no fault of
        its own has not failed."""
        recalled = self.batching.recall(old)
        blameless, self._blameless = self._blameless, deque()
        for draft in blameless:
            gone = [part for part in draft.parts if is_old(part.chunk, old)]
            recalled += [(*delivery, False) for delivery in Draft(gone).deliveries()]
            draft.parts = [part for part in draft.parts if part not in gone]
            if draft.parts:
                self._blameless.append(draft)
        return recalled

    def withdraw(self, epoch: int, position: int) -> list[tuple[Chunk, int, bool]]:
        """Take out a job that was canceled, as (chunk, index, failed); none where it does not wait
        here: a suspect stays until a handler returns it."""
        if isinstance(self.batching, Batching):
            if found := self.batching.withdraw(epoch, position):
                return [(*found, False)]
            for draft in self._blameless:
                for chunk, index in draft.deliveries():
                    if (chunk.epoch, chunk.first + index) == (epoch, position) and draft.size == 1:
                        self._blameless.remove(draft)
                        return [(chunk, index, False)]
        return []

    @property
    def _exhausted(self) -> bool:
        """Nothing more comes before something is settled, and nobody works on it; or nothing
        that comes is worth the wait."""
        return self.hurried or (bool(self.spent) and not self.in_hand)

    def _next(self, now: float, flush: bool) -> Draft | None:
        return self._blameless.popleft() if self._blameless else self.batching.take(now, flush)

    def _return(self, blameless: list[Draft], now: float) -> None:
        """Bulks without fault go first, or back to their keys' queues."""
        if isinstance(self.batching, Ordering):
            for draft in reversed(
                blameless
            ):  # each goes before those that are in the queue already
                deliveries = [(*delivery, 0.0) for delivery in draft.deliveries()]
                self.batching.again(deliveries, now, alone=draft.alone)
            return
        for draft in blameless:
            self._blameless += draft.apart(self.batching.last_alone)

    def _separate(self, late: list[Draft], now: float) -> list[Draft]:
        """Where a timeout is final, only a message that was late alone suffers it: a larger
        bulk is handed out again in parts. Returns what has no neighbours, or comes back anyway.
        """
        if not self._timeout_is_final:
            return late
        for draft in (draft for draft in late if draft.size > 1):
            if isinstance(self.batching, Ordering):
                deliveries = [(*delivery, 0.0) for delivery in draft.deliveries()]
                self.batching.again(deliveries, now, alone=True)
            else:
                self._suspects.defer([*draft.halves()])
        return [draft for draft in late if draft.size == 1]

    def _quarantine(self, drafts: list[Draft], now: float, alone: bool) -> list[Draft]:
        """Suspects run alone; to keep order, those of an ordered route one by one in the queue.
        Returns what is found guilty."""
        wholly_alone = alone and drafts[0].size == 1
        if wholly_alone or not isinstance(self.batching, Ordering):
            return self._suspects.died(drafts, alone=alone)
        deliveries = [(*delivery, 0.0) for draft in drafts for delivery in draft.deliveries()]
        self.batching.again(deliveries, now, alone=True)
        return []

    def _living(self, drafts: list[Draft]) -> list[tuple[Chunk, int]]:
        """The deliveries that can still be settled."""
        parts = [part for draft in drafts for part in draft.parts]
        self._let_go(part for part in parts if self._ended(part))
        return list(Draft([part for part in parts if not self._ended(part)]).deliveries())

    def _ended(self, part: Slice) -> bool:
        return part.chunk.epoch < self._epochs.get(part.chunk.queue, 0)

    def _let_go(self, parts: Iterable[Slice]) -> None:
        """No outcome will come for what was handed out of an epoch that has ended."""
        for part in parts:
            self.batching.settled(part)
