"""The chunks that a connection sent to its batcher and that are not settled yet."""

from __future__ import annotations

from dataclasses import dataclass

from actors.logic.ledger import Ledger

#: Rounds in which a batcher does not know a chunk before it is taken for lost.
PATIENCE = 2


@dataclass(slots=True)
class Sent:
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


class Outbox:
    """Numbers chunks from 1 for one batcher, and knows which of them are open."""

    def __init__(self) -> None:
        self.next = 1
        self.bytes = 0  #: of all that is open
        self._sent: dict[int, Sent] = {}

    def send(self, sent: Sent) -> int:
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
        return [number for number, sent in self._sent.items() if sent.missed < PATIENCE]

    def __len__(self) -> int:
        return len(self._sent)

    def oldest(self) -> float | None:
        """When the first open chunk came."""
        number = self.open_from()
        return self._sent[number].at if number in self._sent else None

    def missing(self, known: set[int], waits_for: int, before: float) -> list[Sent]:
        """What got lost: the batcher, which waits for a certain number and knows these, has
        not known it for so many rounds and then refused it.

        What is given up may still arrive, until the batcher has heard of it and waits for a
        later one: only then can it come again on another way, and not twice.
        """
        lost: list[Sent] = []
        for number, sent in list(self._sent.items()):
            if number in known:
                sent.missed = 0
            elif sent.missed < PATIENCE:
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
