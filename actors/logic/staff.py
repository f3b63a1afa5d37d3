"""Who works for which line: the handlers of one pool, and the routes that share them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from actors.logic.ages import Old, is_old
from actors.logic.bulk import Draft
from actors.logic.credit import Handed
from actors.logic.line import Line, Losses
from actors.logic.report import Report
from actors.logic.worker import Worker


class Assignment(NamedTuple):
    """One message to a handler: bulks of one route, numbered one after another."""

    handler: str
    route: str
    bulks: list[Handed]


class Staff:
    """The handlers of one pool. They work for its lines in turn, a message for each.

    A suspect runs in a process with nothing else in it, of any route, and one process at a
    time is kept for that; its line then waits for its next turn like any other.
    """

    def __init__(self, lines: Iterable[Line], numbers: Iterator[int]) -> None:
        self.workers: dict[str, Worker] = {}
        self.lines = {line.name: line for line in lines}
        self._numbers = numbers  # of bulks, never used twice
        self._turns = deque(self.lines.values())
        self._on_trial = ""  # the handler that is kept for a suspect
        self._accused: Line | None = None  # whose suspect it is kept for, until that is there

    @property
    def in_hand(self) -> int:
        """Bulks at handlers."""
        return sum(len(worker.bulks) for worker in self.workers.values())

    @property
    def _open(self) -> bool:
        """Somebody can be given something."""
        return bool(self._accused) or any(worker.listens for worker in self.workers.values())

    def hire(self, handler: str, *, retiring: bool = False) -> None:
        """A handler is ready to work, or to finish what it has."""
        worker = self.workers.setdefault(handler, Worker())
        worker.retiring, worker.missed = retiring, retiring

    def retired(self) -> list[str]:
        """Handlers that hold nothing and get nothing; each once for each time it is hired so."""
        done = [name for name, w in self.workers.items() if w.missed and not w.bulks]
        for name in done:
            self.workers[name].missed = False
        return done

    def hand_out(self, now: float, flush: bool) -> list[Assignment]:
        """What goes to whom now."""
        assigned: list[Assignment] = []
        if self._accused and not self._accused.suspected:  # its epoch has ended meanwhile
            self._on_trial, self._accused = "", None
        before = -1
        while len(assigned) > before and self._open:
            before = len(assigned)
            for line in [line for line in self._turns if line.stirs(now, flush)]:
                if self._open:
                    self._serve(line, now, flush, assigned)
        return assigned

    def hand_out_suspect(self, now: float) -> list[Assignment]:
        """The next suspect alone, while nobody works on anything."""
        assigned: list[Assignment] = []
        for line in list(self._turns):
            self._try_suspect(line, now, assigned)
            if assigned:
                break
        return assigned

    def answer(
        self, handler: str, numbers: Collection[int], now: float, reports: Iterable[Report] = ()
    ) -> list[Handed]:
        """A handler answers bulks and reports on them; returns those that were open."""
        worker = self.workers[handler]
        answered = worker.answer(self.lines, numbers, now, reports)
        for handed in answered:
            self.lines[handed.route].answered(handed.draft)
        if not worker.bulks and handler == self._on_trial and not self._accused:
            self._on_trial = ""
        return answered

    def again(self, handler: str, handed: Handed, now: float) -> None:
        """A bulk that got lost on its way goes out again."""
        self.workers[handler].again(self.lines[handed.route], handed, now)

    def lose(self, handler: str, overdue: int, now: float) -> dict[str, Losses]:
        """A handler's process is dead; `overdue` is the bulk it was killed for, or 0.

        Returns what that leaves to decide, by route.
        """
        worker = self.workers.pop(handler, Worker())
        if handler == self._on_trial:
            self._on_trial, self._accused = "", None
        routes: dict[str, list[Handed]] = {}
        for handed in worker.bulks.values():
            routes.setdefault(handed.route, []).append(handed)
        alone = len(worker.bulks) == 1
        return {
            route: self.lines[route].lose(bulks, overdue, now, alone=alone)
            for route, bulks in routes.items()
        }

    def overdue(self, now: float) -> list[tuple[str, Handed]]:
        """Handlers that work on a bulk for longer than they may."""
        first = ((name, worker.latest()) for name, worker in self.workers.items())
        return [(name, handed) for name, handed in first if handed and handed.deadline <= now]

    def recallable(self, old: Old) -> Iterator[tuple[str, list[int]]]:
        """Handlers with the numbers of bulks that they have not begun, and that wait too long; of
        an ordered route none, for what came later would go before it."""
        for name, worker in self.workers.items():
            waiting = [
                handed
                for handed in worker.bulks.values()
                if handed.started is None and not self.lines[handed.route].ordered
            ]
            chunks = ((h.number, {part.chunk for part in h.draft.parts}) for h in waiting)
            if numbers := [n for n, them in chunks if any(is_old(chunk, old) for chunk in them)]:
                yield name, numbers

    def due(self, now: float) -> float | None:
        """When to look again."""
        times = [line.batching.due(now) for line in self._turns]
        times += [handed.deadline for w in self.workers.values() if (handed := w.latest())]
        return min((time for time in times if time is not None and time > now), default=None)

    def _serve(self, line: Line, now: float, flush: bool, assigned: list[Assignment]) -> None:
        """Hand out what a line has, at most one message for each handler."""
        before = len(assigned)
        self._try_suspect(line, now, assigned)
        room = {
            name: bulks
            for name, worker in self.workers.items()
            if name != self._on_trial and (bulks := worker.room(line)) > 0
        }
        load = {name: len(self.workers[name].bulks) for name in room}
        given: dict[str, list[Draft]] = {}
        while room and (draft := line.take(now, flush)):
            name = min(room, key=load.__getitem__)
            given.setdefault(name, []).append(draft)
            load[name] += 1
            room[name] -= 1
            if not room[name]:
                del room[name]
        for name, drafts in given.items():
            assigned.append(self._give(name, line, drafts, now))
        self._try_suspect(line, now, assigned)  # one of an ordered line comes in its key's turn
        if len(assigned) > before:
            self._turns.remove(line)
            self._turns.append(line)

    def _try_suspect(self, line: Line, now: float, assigned: list[Assignment]) -> None:
        """Keep a handler for the next suspect of a line, unless one is kept already, and give
        it that once it has nothing else."""
        staying = [name for name, worker in self.workers.items() if not worker.retiring]
        if self._on_trial not in staying and line.suspected and staying:
            self._accused = line
            self._on_trial = min(staying, key=lambda name: len(self.workers[name].bulks))
        ready = self._on_trial in staying and not self.workers[self._on_trial].bulks
        if self._accused is not line or not ready:
            return
        self._accused = None
        if draft := line.next_suspect():
            assigned.append(self._give(self._on_trial, line, [draft], now))

    def _give(self, handler: str, line: Line, drafts: list[Draft], now: float) -> Assignment:
        bulks = [
            Handed(next(self._numbers), line.name, draft, line.timeout, now) for draft in drafts
        ]
        self.workers[handler].give(line, bulks, now)
        line.in_hand += len(bulks)
        return Assignment(handler, line.name, bulks)
