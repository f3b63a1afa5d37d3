"""One handler process: the bulks that it holds of all routes, and its room for more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from actors.logic.bulks.handler_window import MESSAGES_MAX, Handed, HandlerWindow, without
from actors.logic.bulks.report import Report
from actors.logic.bulks.route_queue import RouteQueue


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
            self._rows[route_queue.row] = HandlerWindow(route_queue.in_flight)
        return self._rows[route_queue.row]
