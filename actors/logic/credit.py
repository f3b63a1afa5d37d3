"""What one handler holds, and how much more it may be given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from actors.logic.bulk import Draft

#: Unanswered messages at one handler; fifty to a stopped process make the sender deaf.
MESSAGES = 2
#: Seconds of work that one message may carry to a handler of one bulk at a time.
WORTH = 0.005
#: Bulks in one message at the most.
BULKS = 64


@dataclass(slots=True)
class Handed:
    """A bulk in a handler's hand."""

    number: int
    draft: Draft
    sent: float
    started: float | None = None  #: when the handler was free to begin it


class Credit:
    """One handler's bulks, from being handed out to being answered."""

    def __init__(self, in_flight: int) -> None:
        self.bulks: dict[int, Handed] = {}
        self.reserved = False  #: for suspects, which run in a process with nothing else in it
        self.retiring = False  #: finishes what it has, and gets no more
        self.missed = False  #: somebody waits to hear that it has finished
        self._in_flight = in_flight
        self._unanswered: list[set[int]] = []
        self._cost = WORTH  # seconds a bulk, learnt
        self._answered = 0.0

    def room(self) -> int:
        """Bulks that may be sent now, in one message."""
        if self.reserved or self.retiring or len(self._unanswered) >= MESSAGES:
            return 0
        if self._in_flight > 1:
            return min(BULKS, self._in_flight - len(self.bulks))
        return max(1, min(BULKS, int(WORTH / self._cost)))

    def give(self, drafts: Iterable[tuple[int, Draft]], now: float) -> None:
        """One message with these numbered bulks goes out."""
        numbers = set()
        for number, draft in drafts:
            self.bulks[number] = Handed(number, draft, now)
            numbers.add(number)
        self._unanswered.append(numbers)
        self._start(now)

    def answer(self, numbers: Iterable[int], now: float) -> list[Handed]:
        """Bulks are settled; returns those that were open, each only once."""
        answered = [self.bulks.pop(number) for number in numbers if number in self.bulks]
        if answered:
            began = max(self._answered, min(handed.sent for handed in answered))
            cost = max(1e-5, now - began) / len(answered)
            self._cost += (cost - self._cost) / 4
            self._answered = now
            self._heard({handed.number for handed in answered})
            self._start(now)
        if not self.bulks:
            self.reserved = False
        return answered

    def received(self, numbers: Iterable[int]) -> None:
        """The handler has these, answered or not: they do not fill its ears any more.

        One that takes its bulks one by one gets no more for it: what waits there for its
        turn can go to no other, and falls with its process.
        """
        if self._in_flight > 1:
            self._heard(set(numbers))

    def unknown(self, known: set[int], before: float) -> list[Handed]:
        """Bulks sent before a time that the handler says it does not have."""
        return [h for h in self.bulks.values() if h.number not in known and h.sent < before]

    def again(self, handed: Handed, now: float) -> None:
        """A bulk that got lost goes out again: the handler does it after what it has by now."""
        del self.bulks[handed.number]
        self.bulks[handed.number] = handed
        handed.sent, handed.started = now, None
        self._start(now)

    def overdue(self, now: float, timeout: float) -> Handed | None:
        """A bulk that has been worked on for longer than it may."""
        for handed in self.bulks.values():
            if handed.started is not None and now >= handed.started + timeout:
                return handed
        return None

    def _heard(self, known: set[int]) -> None:
        self._unanswered = [rest for sent in self._unanswered if (rest := sent - known)]

    def _start(self, now: float) -> None:
        for handed in list(self.bulks.values())[: self._in_flight]:
            if handed.started is None:
                handed.started = now
