"""The handlers of one pool, their windows, and the routes that share them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import inf

from actors.logic.bulks.bulk import Draft, Handed, Report
from actors.logic.bulks.route_queue import Losses, RouteQueue
from actors.logic.settlement.unacked import Old, is_old

#: Unanswered messages at one handler; fifty to a stopped process make the sender deaf.
MESSAGES_MAX = 2
#: Seconds of work that one message may carry to who takes one bulk at a time.
MESSAGE_WORTH_S = 0.005
#: Seconds a bulk from which a handler has only the one that it works on: what waits at it can go
#: to no other, nor back to its queue, and the way of the next one is short against them.
SLOW_BULK_S = 0.5
#: The same of jobs, which wait for nobody else's.
SLOW_JOB_S = 0.05
#: Bulks in one message at the most.
BULKS_MAX = 256


class HandlerWindow:
    """The bulks that one handler does in turn, `in_flight` at once: those of a route, or of
    several routes that take turns."""

    def __init__(self, in_flight: int, *, jobs: bool = False, alone: bool = False) -> None:
        self.bulks: dict[int, Handed] = {}
        self._in_flight = in_flight
        # What waits behind a bulk may have begun unseen when their process dies.
        self._alone = alone
        #: Seconds a bulk from which it counts as slow, and what one takes of which nobody knows.
        self._slow = SLOW_JOB_S if jobs else SLOW_BULK_S
        self._unknown = SLOW_JOB_S if jobs else MESSAGE_WORTH_S
        self._unanswered: list[set[int]] = []
        self._costs: dict[str, float] = {}  # seconds a bulk, learnt, by route

    def room(self, route: str) -> int:
        """Bulks of a route that may be sent now, in one message.

        Who takes bulks one by one gets no more for having heard of those it has: what waits
        there for its turn can go to no other, and falls with its process.
        """
        if self._alone:
            return 0 if self.bulks else 1
        if self._in_flight > 1:
            return min(BULKS_MAX, self._in_flight - len(self.bulks))
        cost = self._costs.get(route, self._unknown)
        if len(self._unanswered) >= (MESSAGES_MAX if cost < self._slow else 1):
            return 0
        return max(1, min(BULKS_MAX, int(MESSAGE_WORTH_S / cost)))

    def give(self, bulks: Iterable[Handed], now: float) -> None:
        """One message with these goes out."""
        given = {handed.number: handed for handed in bulks}
        self.bulks |= given
        if self._in_flight == 1:
            self._unanswered.append(set(given))
        self._start(now)

    def answer(self, bulks: list[Handed], now: float, costs: Mapping[str, float]) -> None:
        """These of its bulks are settled; `costs` are the seconds for each of a route.

        What the way there and back took does not count: on a busy machine that is longer than
        `MESSAGE_WORTH_S`, and a message for each bulk would make it longer still.
        """
        for handed in bulks:
            del self.bulks[handed.number]
        for route in costs.keys() & {handed.route for handed in bulks}:
            cost = self._costs.get(route, self._unknown)
            self._costs[route] = max(1e-5, cost + (costs[route] - cost) / 4)
        self._unanswered = without(self._unanswered, {handed.number for handed in bulks})
        self._start(now)

    def first(self) -> Handed | None:
        """The bulk that it began first, and whose time is over first."""
        return next(iter(self.bulks.values()), None)

    def again(self, handed: Handed, now: float) -> None:
        """A bulk that got lost goes out again: the handler does it after what it has by now."""
        del self.bulks[handed.number]
        self.bulks[handed.number] = handed
        handed.sent, handed.started = now, None
        self._start(now)

    def arrange(self, came: Sequence[int]) -> None:
        """They are done in the order in which they came, which need not be that in which they
        were sent: whoever was overtaken has not begun."""
        places = {number: place for place, number in enumerate(came)}
        bulks = sorted(self.bulks.values(), key=lambda handed: places.get(handed.number, inf))
        waiting = [handed for handed in bulks[self._in_flight :] if handed.started is not None]
        begun = [handed for handed in bulks[: self._in_flight] if handed.started is None]
        for overtaken, first in zip(waiting, begun, strict=False):
            first.started, overtaken.started = overtaken.started, None
        bulks.sort(key=lambda handed: handed.deadline)  # those that wait keep their order
        self.bulks = {handed.number: handed for handed in bulks}

    def _start(self, now: float) -> None:
        for handed in islice(self.bulks.values(), self._in_flight):
            if handed.started is None:
                handed.started = now


def without(messages: list[set[int]], known: set[int]) -> list[set[int]]:
    """The rest of each message once some of its bulks are answered."""
    return [rest for sent in messages if (rest := sent - known)]


class HandlerState:
    """The bulks of one handler, in a window for each route, or for several that take turns."""

    def __init__(self) -> None:
        self.bulks: dict[int, Handed] = {}
        self.retiring = False  #: finishes what it has, and gets no more
        self.awaited = False  #: somebody waits to hear that it has finished
        self._rows: dict[str, HandlerWindow] = {}
        self._unreceived: list[set[int]] = []

    @property
    def accepts(self) -> bool:
        """Whether it may be sent another message."""
        return len(self._unreceived) < MESSAGES_MAX

    def room(self, route_queue: RouteQueue) -> int:
        """Bulks of a route queue that may be sent now, in one message."""
        return (
            self._row(route_queue).room(route_queue.name)
            if self.accepts and not self.retiring
            else 0
        )

    def give(self, route_queue: RouteQueue, bulks: list[Handed], now: float) -> None:
        """One message with these bulks of a route queue goes out."""
        self.bulks.update((handed.number, handed) for handed in bulks)
        self._unreceived.append({handed.number for handed in bulks})
        self._row(route_queue).give(bulks, now)

    def answer(
        self,
        route_queues: dict[str, RouteQueue],
        numbers: Collection[int],
        now: float,
        reports: Iterable[Report] = (),
    ) -> list[Handed]:
        """Bulks are settled, on which it reports; returns those that were open, each only once."""
        answered = [self.bulks.pop(number) for number in numbers if number in self.bulks]
        self.received(handed.number for handed in answered)
        rows: dict[str, list[Handed]] = {}
        for handed in answered:
            rows.setdefault(route_queues[handed.route].row, []).append(handed)
        costs = {report.route: report.seconds / report.bulks for report in reports if report.bulks}
        for row, bulks in rows.items():
            self._rows[row].answer(bulks, now, costs)
        return answered

    def received(self, numbers: Iterable[int]) -> None:
        """The handler has these, answered or not: none of them is unreceived."""
        self._unreceived = without(self._unreceived, set(numbers))

    def arrange(self, came: Sequence[int]) -> None:
        """The handler has these, in the order in which they came to it."""
        self.received(came)
        for row in self._rows.values():
            row.arrange(came)

    def latest(self) -> Handed | None:
        """The bulk whose time is over first."""
        first = [bulk for row in self._rows.values() if (bulk := row.first())]
        return min(first, key=lambda handed: handed.deadline, default=None)

    def unknown(self, known: set[int], before: float) -> list[Handed]:
        """Bulks sent before a time that the handler says it does not have."""
        return [h for h in self.bulks.values() if h.number not in known and h.sent < before]

    def again(self, route_queue: RouteQueue, handed: Handed, now: float) -> None:
        """A bulk that got lost goes out again."""
        self._row(route_queue).again(handed, now)

    def _row(self, route_queue: RouteQueue) -> HandlerWindow:
        if route_queue.row not in self._rows:
            self._rows[route_queue.row] = HandlerWindow(
                route_queue.in_flight, jobs=route_queue.jobs, alone=route_queue.at_most_once
            )
        return self._rows[route_queue.row]


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
    def is_occupied(self) -> bool:
        """Whether every handler works on something that it says takes long."""
        return all(
            any(handed.until is not None for handed in state.bulks.values())
            for state in self.handlers.values()
        )

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
        """Hands out bulks that are due to handlers that have room."""
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

    def holder(self, epoch: int, position: int) -> tuple[str, Handed] | None:
        """The handler that has a delivery, and the bulk that it is in."""
        for name, state in self.handlers.items():
            for handed in state.bulks.values():
                if handed.holds(epoch, position):
                    return name, handed
        return None

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
