"""One handler process: what it holds of all routes, and whether it may be told more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from actors.logic.credit import MESSAGES, Credit, Handed, without
from actors.logic.line import Line
from actors.logic.report import Report


class Worker:
    """A row of bulks for each line, or for several that take turns, and one pair of ears."""

    def __init__(self) -> None:
        self.bulks: dict[int, Handed] = {}
        self.retiring = False  #: finishes what it has, and gets no more
        self.missed = False  #: somebody waits to hear that it has finished
        self._rows: dict[str, Credit] = {}
        self._unheard: list[set[int]] = []

    @property
    def listens(self) -> bool:
        """Whether another message would find its ears open."""
        return len(self._unheard) < MESSAGES

    def room(self, line: Line) -> int:
        """Bulks of a line that may be sent now, in one message."""
        return self._row(line).room(line.name) if self.listens and not self.retiring else 0

    def give(self, line: Line, bulks: list[Handed], now: float) -> None:
        """One message with these bulks of a line goes out."""
        self.bulks.update((handed.number, handed) for handed in bulks)
        self._unheard.append({handed.number for handed in bulks})
        self._row(line).give(bulks, now)

    def answer(
        self,
        lines: dict[str, Line],
        numbers: Collection[int],
        now: float,
        reports: Iterable[Report] = (),
    ) -> list[Handed]:
        """Bulks are settled, on which it reports; returns those that were open, each only once."""
        answered = [self.bulks.pop(number) for number in numbers if number in self.bulks]
        self.received(handed.number for handed in answered)
        rows: dict[str, list[Handed]] = {}
        for handed in answered:
            rows.setdefault(lines[handed.route].row, []).append(handed)
        costs = {report.route: report.seconds / report.bulks for report in reports if report.bulks}
        for row, bulks in rows.items():
            self._rows[row].answer(bulks, now, costs)
        return answered

    def received(self, numbers: Iterable[int]) -> None:
        """The handler has these, answered or not: they do not fill its ears any more."""
        self._unheard = without(self._unheard, set(numbers))

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

    def again(self, line: Line, handed: Handed, now: float) -> None:
        """A bulk that got lost goes out again."""
        self._row(line).again(handed, now)

    def _row(self, line: Line) -> Credit:
        if line.row not in self._rows:
            self._rows[line.row] = Credit(line.in_flight)
        return self._rows[line.row]
