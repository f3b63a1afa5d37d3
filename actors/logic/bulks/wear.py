"""The limits after which a handler's process makes room for a fresh one."""

from __future__ import annotations

from collections.abc import Iterable

MIB = 1024 * 1024


def least(limits: Iterable[int]) -> int:
    """The limit of a process that several share, of which 0 is none."""
    return min((limit for limit in limits if limit), default=0)


class Wear:
    """The work and the memory of one process, against their limits. A limit of 0 is none."""

    def __init__(self, max_messages: int, max_memory: int) -> None:
        self.weighs = max_memory > 0  #: whether its memory matters
        self._max_messages = max_messages
        self._max_memory = max_memory
        self._messages = 0

    def take(self, messages: int) -> None:
        """So many messages more were handed to it."""
        self._messages += messages

    def cause(self, memory: int = 0) -> str:
        """Why it should be replaced, as far as is known; empty as long as it need not."""
        if self._max_messages and self._messages >= self._max_messages:
            return f"{self._messages} messages, MAX_MESSAGES is {self._max_messages}"
        if self._max_memory and memory >= self._max_memory:
            held, most = memory / MIB, self._max_memory / MIB
            return f"{held:.0f} MiB of memory, MAX_MEMORY is {most:.0f} MiB"
        return ""
