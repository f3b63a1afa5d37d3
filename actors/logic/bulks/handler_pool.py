"""The handlers of one pool, and the routes that share them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator

from actors.logic.bulks.bulk import Draft
from actors.logic.bulks.handler_state import HandlerState
from actors.logic.bulks.handler_window import Handed
from actors.logic.bulks.report import Report
from actors.logic.bulks.route_queue import Losses, RouteQueue
from actors.logic.settlement.ages import Old, is_old

#: One message to a handler: bulks of one route, numbered one after another.
HandOut = tuple[str, list[Handed]]


class HandlerPool:
    """The handlers of one pool. They work for its routes in turn, a message for each.

    A suspect runs in a process with nothing else in it, of any route, and one process at a
    time is kept for that; its queue then waits for its next turn like any other.
    """

    def __init__(self, route_queues: Iterable[RouteQueue], numbers: Iterator[int]) -> None:
        self.handlers: dict[str, HandlerState] = {}
        self.route_queues = {route_queue.name: route_queue for route_queue in route_queues}
        self._numbers = numbers  # of bulks, never used twice
        self._turns = deque(self.route_queues.values())
        self._reserved_for = ""  # the handler that is kept for a suspect
        self._quarantined: RouteQueue | None = (
            None  # whose suspect it is kept for, until that is there
        )

    @property
    def in_hand(self) -> int:
        """Bulks at handlers."""
        return sum(len(state.bulks) for state in self.handlers.values())

    @property
    def _open(self) -> bool:
        """Somebody can be given something."""
        return bool(self._quarantined) or any(state.accepts for state in self.handlers.values())

    def add_handler(self, handler: str, *, retiring: bool = False) -> None:
        """A handler is ready to work, or to finish what it has."""
        state = self.handlers.setdefault(handler, HandlerState())
        state.retiring, state.awaited = retiring, retiring

    def retired(self) -> list[str]:
        """Handlers that hold nothing and get nothing; each once for each time it is hired so."""
        done = [name for name, w in self.handlers.items() if w.awaited and not w.bulks]
        for name in done:
            self.handlers[name].awaited = False
        return done

    def hand_out(self, now: float, flush: bool) -> list[HandOut]:
        """What goes to whom now."""
        assigned: list[HandOut] = []
        if self._quarantined and not self._quarantined.suspected:  # its epoch has ended meanwhile
            self._reserved_for, self._quarantined = "", None
        before = -1
        while len(assigned) > before and self._open:
            before = len(assigned)
            for route_queue in [
                route_queue for route_queue in self._turns if route_queue.has_work(now, flush)
            ]:
                if self._open:
                    self._serve(route_queue, now, flush, assigned)
        return assigned

    def hand_out_suspect(self, now: float) -> list[HandOut]:
        """The next suspect alone, while nobody works on anything."""
        assigned: list[HandOut] = []
        for route_queue in list(self._turns):
            self._try_suspect(route_queue, now, assigned)
            if assigned:
                break
        return assigned

    def answer(
        self, handler: str, numbers: Collection[int], now: float, reports: Iterable[Report] = ()
    ) -> list[Handed]:
        """A handler answers bulks and reports on them; returns those that were open."""
        state = self.handlers[handler]
        answered = state.answer(self.route_queues, numbers, now, reports)
        for handed in answered:
            self.route_queues[handed.route].answered(handed.draft)
        if not state.bulks and handler == self._reserved_for and not self._quarantined:
            self._reserved_for = ""
        return answered

    def again(self, handler: str, handed: Handed, now: float) -> None:
        """A bulk that got lost on its way goes out again."""
        self.handlers[handler].again(self.route_queues[handed.route], handed, now)

    def lose(self, handler: str, overdue: int, now: float) -> dict[str, Losses]:
        """A handler's process is dead; `overdue` is the bulk it was killed for, or 0.

        Returns what that leaves to decide, by route.
        """
        state = self.handlers.pop(handler, HandlerState())
        if handler == self._reserved_for:
            self._reserved_for, self._quarantined = "", None
        routes: dict[str, list[Handed]] = {}
        for handed in state.bulks.values():
            routes.setdefault(handed.route, []).append(handed)
        alone = len(state.bulks) == 1
        return {
            route: self.route_queues[route].lose(bulks, overdue, now, alone=alone)
            for route, bulks in routes.items()
        }

    def overdue(self, now: float) -> list[tuple[str, Handed]]:
        """Handlers that work on a bulk for longer than they may."""
        first = ((name, state.latest()) for name, state in self.handlers.items())
        return [(name, handed) for name, handed in first if handed and handed.deadline <= now]

    def recallable(self, old: Old) -> Iterator[tuple[str, list[int]]]:
        """Handlers with the numbers of bulks that they have not begun, and that wait too long; of
        an ordered route none, for what came later would go before it."""
        for name, state in self.handlers.items():
            waiting = [
                handed
                for handed in state.bulks.values()
                if handed.started is None and not self.route_queues[handed.route].ordered
            ]
            chunks = ((h.number, {part.chunk for part in h.draft.parts}) for h in waiting)
            if numbers := [n for n, them in chunks if any(is_old(chunk, old) for chunk in them)]:
                yield name, numbers

    def due(self, now: float) -> float | None:
        """When to look again."""
        times = [route_queue.batching.due(now) for route_queue in self._turns]
        times += [handed.deadline for w in self.handlers.values() if (handed := w.latest())]
        return min((time for time in times if time is not None and time > now), default=None)

    def _serve(
        self, route_queue: RouteQueue, now: float, flush: bool, assigned: list[HandOut]
    ) -> None:
        """Hand out what a route queue has, at most one message for each handler."""
        before = len(assigned)
        self._try_suspect(route_queue, now, assigned)
        room = {
            name: bulks
            for name, state in self.handlers.items()
            if name != self._reserved_for and (bulks := state.room(route_queue)) > 0
        }
        load = {name: len(self.handlers[name].bulks) for name in room}
        given: dict[str, list[Draft]] = {}
        while room and (draft := route_queue.take(now, flush)):
            name = min(room, key=load.__getitem__)
            given.setdefault(name, []).append(draft)
            load[name] += 1
            room[name] -= 1
            if not room[name]:
                del room[name]
        for name, drafts in given.items():
            assigned.append(self._give(name, route_queue, drafts, now))
        self._try_suspect(
            route_queue, now, assigned
        )  # one of an ordered route comes in its key's turn
        if len(assigned) > before:
            self._turns.remove(route_queue)
            self._turns.append(route_queue)

    def _try_suspect(self, route_queue: RouteQueue, now: float, assigned: list[HandOut]) -> None:
        """Keep a handler for the next suspect of a route queue, unless one is kept already, and
        give it that once it has nothing else."""
        staying = [name for name, state in self.handlers.items() if not state.retiring]
        if self._reserved_for not in staying and route_queue.suspected and staying:
            self._quarantined = route_queue
            self._reserved_for = min(staying, key=lambda name: len(self.handlers[name].bulks))
        ready = self._reserved_for in staying and not self.handlers[self._reserved_for].bulks
        if self._quarantined is not route_queue or not ready:
            return
        self._quarantined = None
        if draft := route_queue.next_suspect():
            assigned.append(self._give(self._reserved_for, route_queue, [draft], now))

    def _give(
        self, handler: str, route_queue: RouteQueue, drafts: list[Draft], now: float
    ) -> HandOut:
        bulks = [
            Handed(next(self._numbers), route_queue.name, draft, route_queue.timeout, now)
            for draft in drafts
        ]
        self.handlers[handler].give(route_queue, bulks, now)
        route_queue.in_hand += len(bulks)
        return handler, bulks
