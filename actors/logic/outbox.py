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
    missed: int = 0  #: rounds

    @property
    def open(self) -> bool:
        """Whether a delivery of it waits for a verdict."""
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
        """All that still waits for a verdict."""
        for number, sent in list(self._sent.items()):
            if not sent.open:
                self._drop(number)
        return list(self._sent)

    def oldest(self) -> float | None:
        """When the first open chunk came."""
        number = self.open_from()
        return self._sent[number].at if number in self._sent else None

    def missing(self, known: set[int], before: float) -> list[Sent]:
        """What the batcher has not known for so many rounds; it counts as lost from now on."""
        lost: list[Sent] = []
        for number, sent in list(self._sent.items()):
            if number in known or sent.at > before:
                sent.missed = 0
                continue
            sent.missed += 1
            if sent.missed >= PATIENCE:
                lost.append(sent)
                self._drop(number)
        return lost

    def end(self, epoch: int) -> None:
        """An epoch has ended: nothing of it can be settled any more."""
        for number in [n for n, sent in self._sent.items() if sent.epoch == epoch]:
            self._drop(number)

    def _drop(self, number: int) -> None:
        self.bytes -= self._sent.pop(number).bytes
