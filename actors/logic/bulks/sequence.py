"""Numbered things in order: put back what overtook, and give up what will not come."""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

T = TypeVar("T")


class Sequence(Generic[T]):
    """Things numbered 1, 2, 3 … that may come late, twice or never.

    What comes twice, or after it was given up, is refused for ever.
    """

    def __init__(self) -> None:
        self.next = 1  #: the number that is waited for
        self._early: dict[int, T] = {}

    def put(self, number: int, thing: T) -> list[T]:
        """Take one; returns all that are now in order."""
        if number >= self.next:
            self._early.setdefault(number, thing)
        return self._ready()

    def give_up(self, open_numbers: Collection[int], below: int) -> list[T]:
        """Stop waiting for every number below `below` that the sender no longer holds open."""
        ready: list[T] = []
        while self.next < below and self.next not in open_numbers:
            self.next += 1
            ready += self._ready()
        return ready

    def early(self) -> list[int]:
        """Numbers that are here, and wait for one before them."""
        return sorted(self._early)

    def _ready(self) -> list[T]:
        ready: list[T] = []
        while self.next in self._early:
            ready.append(self._early.pop(self.next))
            self.next += 1
        return ready
