"""One route between the deliveries that come and the handlers that take them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from actors.logic.batching import Batching
from actors.logic.bulk import Chunk, Draft, Part
from actors.logic.credit import Credit, Handed
from actors.logic.ordering import Ordering
from actors.logic.suspects import Suspects


@dataclass(slots=True)
class Losses:
    """What a handler's death leaves to decide; the rest is handed out again by the line."""

    bulks: int = 0  #: that it held
    crashed: list[tuple[Chunk, int]] = field(default_factory=list)  #: alone too often
    timed_out: list[tuple[Chunk, int]] = field(default_factory=list)  #: held it for too long


class Line:
    """What waits, who works, and who is to get what next.

    In order: bulks that lost their process through no fault of their own, suspects one
    at a time in a process with nothing else in it, then what the batching says is due.
    """

    def __init__(
        self,
        batching: Batching | Ordering,
        in_flight: int,
        timeout: float,
        max_crashes: int,
        *,
        timeout_is_final: bool = False,  # what befalls a late message is the end of it
    ) -> None:
        self.batching = batching
        self.handlers: dict[str, Credit] = {}
        self.spent: set[str] = set()  #: queues of which no more comes before a settlement
        self._in_flight = in_flight
        self._timeout = timeout
        self._timeout_is_final = timeout_is_final
        self._suspects = Suspects(max_crashes)
        self._innocent: deque[Draft] = deque()
        self._on_trial = ""  # the handler that is kept for suspects
        self._epochs: dict[str, int] = {}  # by queue; those before have ended

    @property
    def in_hand(self) -> int:
        """Bulks at handlers."""
        return sum(len(credit.bulks) for credit in self.handlers.values())

    @property
    def empty(self) -> bool:
        """Nothing waits and nobody works."""
        waiting = self._innocent or self._suspects or self.batching.size
        return not waiting and not self.in_hand

    def hire(self, handler: str, *, retiring: bool = False) -> None:
        """A handler is ready to work, or to finish what it has."""
        credit = self.handlers.setdefault(handler, Credit(self._in_flight))
        credit.retiring, credit.missed = retiring, retiring

    def retired(self) -> list[str]:
        """Handlers that hold nothing and get nothing; each once for each time it is hired so."""
        done = [name for name, c in self.handlers.items() if c.missed and not c.bulks]
        for name in done:
            self.handlers[name].missed = False
        return done

    def hand_out(self, now: float, flush: bool) -> dict[str, list[Draft]]:
        """Who gets which bulks now, one message each; they are to be given by `Credit.give`."""
        given: dict[str, list[Draft]] = {}
        self._put_on_trial(given)
        room = {name: credit.room() for name, credit in self.handlers.items()}
        flush = flush or (bool(self.spent) and not self.in_hand and not given)
        while free := [name for name, bulks in room.items() if bulks > 0]:
            name = min(free, key=lambda n: len(self.handlers[n].bulks) + len(given.get(n, ())))
            draft = self._innocent.popleft() if self._innocent else self.batching.take(now, flush)
            if draft is None:
                break
            if draft.alone:  # of an ordered route, whose suspects waited in their key's line
                self._suspects.accuse(draft)
                continue
            given.setdefault(name, []).append(draft)
            room[name] -= 1
        self._put_on_trial(given)
        return given

    def answer(self, handler: str, numbers: tuple[int, ...], now: float) -> list[Handed]:
        """A handler answers bulks; returns those that were open."""
        answered = self.handlers[handler].answer(numbers, now)
        for handed in answered:
            if handed.draft.alone:
                self._suspects.forget(handed.draft)
            self._let_go(part for part in handed.draft.parts if self._ended(part))
        if self._on_trial == handler and not self.handlers[handler].bulks:
            self._on_trial = ""
        return answered

    def lose(self, handler: str, overdue: int, now: float) -> Losses:
        """A handler's process is dead; `overdue` is the bulk it was killed for, or 0."""
        credit = self.handlers.pop(handler, None)
        if credit is None:
            return Losses()
        if self._on_trial == handler:
            self._on_trial = ""
        losses = Losses(bulks=len(credit.bulks))
        drafts = [handed.draft for handed in credit.bulks.values()]
        for draft in drafts:
            draft.count_attempt()
        if overdue:  # it was killed: that says nothing of what else was in it
            late = [handed.draft for handed in credit.bulks.values() if handed.number == overdue]
            for draft in late:
                self._suspects.forget(draft)
            self._return([draft for draft in drafts if draft not in late], now)
            losses.timed_out = self._living(self._separate(late, now))
        elif drafts:
            losses.crashed = self._living(self._accuse(drafts, now))
        for queue, epoch in self._epochs.items():
            self.drop(queue, epoch)
        return losses

    def drop(self, queue: str, epoch: int) -> None:
        """What came before an epoch of a queue will come again, and is not handed out twice."""
        self._epochs[queue] = epoch
        self.batching.drop(queue, epoch)
        self._let_go(self._suspects.drop(queue, epoch))
        for draft in self._innocent:
            self._let_go(part for part in draft.parts if self._ended(part))
            draft.parts = [part for part in draft.parts if not self._ended(part)]
        self._innocent = deque(draft for draft in self._innocent if draft.parts)

    def overdue(self, now: float) -> list[tuple[str, Handed]]:
        """Handlers that work on a bulk for longer than they may."""
        found = ((n, credit.overdue(now, self._timeout)) for n, credit in self.handlers.items())
        return [(name, handed) for name, handed in found if handed]

    def due(self, now: float) -> float | None:
        """When to look again."""
        times = [self.batching.due(now)]
        for credit in self.handlers.values():
            started = [h.started for h in credit.bulks.values() if h.started is not None]
            times += [min(started) + self._timeout] if started else []
        return min((time for time in times if time is not None and time > now), default=None)

    def _put_on_trial(self, given: dict[str, list[Draft]]) -> None:
        """Give the next suspect to the handler kept for it, once that has nothing else."""
        staying = [name for name, credit in self.handlers.items() if not credit.retiring]
        if not self._suspects or not staying:
            return
        if self._on_trial not in staying:
            self._on_trial = min(staying, key=lambda name: len(self.handlers[name].bulks))
        credit = self.handlers[self._on_trial]
        credit.reserved = True
        if not credit.bulks and self._on_trial not in given and (draft := self._suspects.next()):
            first, *rest = draft.apart(self.batching.last_alone)
            self._suspects.defer(rest)
            given[self._on_trial] = [first]

    def _return(self, innocent: list[Draft], now: float) -> None:
        """Bulks without fault go first, or back to their keys' lines."""
        if isinstance(self.batching, Ordering):
            for draft in reversed(innocent):  # each goes before those that are in line already
                deliveries = [(*delivery, 0.0) for delivery in draft.deliveries()]
                self.batching.again(deliveries, now, alone=draft.alone)
            return
        for draft in innocent:
            self._innocent += draft.apart(self.batching.last_alone)

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

    def _accuse(self, drafts: list[Draft], now: float) -> list[Draft]:
        """Suspects run alone; to keep order, those of an ordered route one by one in line.
        Returns what is found guilty."""
        alone = len(drafts) == 1 and drafts[0].size == 1
        if alone or not isinstance(self.batching, Ordering):
            return self._suspects.died(drafts)
        deliveries = [(*delivery, 0.0) for draft in drafts for delivery in draft.deliveries()]
        self.batching.again(deliveries, now, alone=True)
        return []

    def _living(self, drafts: list[Draft]) -> list[tuple[Chunk, int]]:
        """The deliveries that can still be settled."""
        parts = [part for draft in drafts for part in draft.parts]
        self._let_go(part for part in parts if self._ended(part))
        return list(Draft([part for part in parts if not self._ended(part)]).deliveries())

    def _ended(self, part: Part) -> bool:
        return part.chunk.epoch < self._epochs.get(part.chunk.queue, 0)

    def _let_go(self, parts: Iterable[Part]) -> None:
        """No verdict will come for what was handed out of an epoch that has ended."""
        for part in parts:
            self.batching.settled(part)
