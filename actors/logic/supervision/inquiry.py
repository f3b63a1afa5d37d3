"""A question that is passed on to several, and who waits for its answer."""

from __future__ import annotations

from collections.abc import Iterable


class Inquiry:
    """One at a time: whoever asks meanwhile gets the same answer, or one probe would cost
    another its own."""

    def __init__(self) -> None:
        self.number = 0  #: of the question that is asked now, or was last
        self._askers: dict[str, int] = {}  # the round to answer, by who asked
        self._silent: set[str] = set()

    def ask(self, asker: str, round: int) -> bool:
        """Whether a new question is to be passed on, under the next number."""
        begins = not self._askers
        self._askers[asker] = round
        self.number += begins
        return begins

    def expect(self, answerers: Iterable[str]) -> None:
        """Who has been asked."""
        self._silent = set(answerers)

    def on_answer(self, answerer: str, number: int) -> None:
        """One has answered."""
        if number == self.number:
            self._silent.discard(answerer)

    @property
    def complete(self) -> bool:
        """Whether all have answered."""
        return not self._silent

    def end(self) -> list[tuple[str, int]]:
        """Whom to answer, and in which round; nobody, where that is done."""
        askers, self._askers = self._askers, {}
        return list(askers.items())
