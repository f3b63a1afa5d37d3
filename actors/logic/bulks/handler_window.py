"""The bulks that one handler holds, and its room for more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf

from actors.logic.bulks.bulk import Draft

#: Unanswered messages at one handler; fifty to a stopped process make the sender deaf.
MESSAGES_MAX = 2
#: Seconds of work that one message may carry to who takes one bulk at a time.
MESSAGE_WORTH_S = 0.005
#: Seconds a bulk from which a handler has only the one that it works on: what waits at it can go
#: to no other, nor back to its queue, and the way of the next one is short against them.
SLOW_BULK_S = 0.5
#: Bulks in one message at the most.
BULKS_MAX = 256


@dataclass(slots=True)
class Handed:
    """A bulk in a handler's hand."""

    number: int
    route: str
    draft: Draft
    timeout: float  #: seconds for it, from when the handler was free to begin it
    sent: float
    started: float | None = None  #: when that was

    @property
    def deadline(self) -> float:
        """When it will have been worked on for longer than it may."""
        return inf if self.started is None else self.started + self.timeout


class HandlerWindow:
    """The bulks that one handler does in one row, so many at once: those of a route, or of
    several routes that take turns."""

    def __init__(self, in_flight: int) -> None:
        self.bulks: dict[int, Handed] = {}
        self._in_flight = in_flight
        self._unanswered: list[set[int]] = []
        self._costs: dict[str, float] = {}  # seconds a bulk, learnt, by route

    def room(self, route: str) -> int:
        """Bulks of a route that may be sent now, in one message.

        Who takes bulks one by one gets no more for having heard of those it has: what waits
        there for its turn can go to no other, and falls with its process.
        """
        if self._in_flight > 1:
            return min(BULKS_MAX, self._in_flight - len(self.bulks))
        cost = self._costs.get(route, MESSAGE_WORTH_S)
        if len(self._unanswered) >= (MESSAGES_MAX if cost < SLOW_BULK_S else 1):
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
            cost = self._costs.get(route, MESSAGE_WORTH_S)
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
    """What is left of messages once some of their bulks need no more waiting for."""
    return [rest for sent in messages if (rest := sent - known)]
