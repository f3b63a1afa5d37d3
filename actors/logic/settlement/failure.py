"""The outcomes of a message, and the one policy for everything that goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import inf
from random import Random
from typing import Any
from zlib import crc32

from actors.logic.messages.secrets import masked

#: The share of a wait by which jitter shortens it at the most. Never longer: a wait on RabbitMQ
#: is rounded up, and would be pushed to the next waiting queue.
JITTER = 0.1

#: Characters of a reason that travel: it is for people, and a header in the end.
REASON = 500


class Outcome(IntEnum):
    """The outcome of one delivery. The numbers travel, the names are for people."""

    ACK = 0
    REQUEUE = 1  #: a failure: given back, and the broker may count it
    REJECT = 2  #: the broker's own: dropped, or to the queue's dead-letter exchange
    DEAD_LETTER = 3  #: a copy with the reason in `<queue>.dead`, confirmed, then acknowledged
    RETRY = 4  #: waits outside the queue, then comes back with one attempt more
    RETURN = 5  #: never handled: given back without a count against it
    SNOOZE = 6  #: comes back after a while without a count against it


@dataclass(frozen=True, slots=True)
class Policy:
    """A table's entry: an outcome, and for RETRY the waits between its attempts."""

    outcome: Outcome
    attempts: int = 0  #: RETRY: hand-outs in all, then DEAD_LETTER; 0: without end
    first: float = 0.0  #: seconds before the second hand-out
    factor: float = 1.0
    cap: float = 0.0  #: seconds at the most
    jitter: bool = False  #: each wait is shortened by up to `JITTER`
    delays: tuple[float, ...] = ()  #: in the place of `first`, `factor` and `cap`

    @property
    def lasts(self) -> float:
        """Seconds that a message waits in all, from the first hand-out to the last."""
        if self.outcome is not Outcome.RETRY:
            return 0.0
        if not self.attempts:
            return inf
        return sum(self._wait(attempt) for attempt in range(1, self.attempts))

    def _wait(self, attempts: int) -> float:
        if self.delays:
            return self.delays[min(max(attempts, 1), len(self.delays)) - 1]
        try:
            return min(self.cap, self.first * float(self.factor) ** max(attempts - 1, 0))
        except OverflowError:
            return self.cap

    def apply(self, attempts: int, content: bytes = b"") -> tuple[Outcome, float]:
        """Outcome and delay in seconds for a message handed out `attempts` times by now.

        Jitter is a hash of the content and the attempt: it spreads messages that failed
        together, and the same run gives the same delays.
        """
        if self.outcome is not Outcome.RETRY:
            return self.outcome, 0.0
        if self.attempts and attempts >= self.attempts:
            return Outcome.DEAD_LETTER, 0.0
        delay = self._wait(attempts)
        if self.jitter:
            delay *= 1.0 - JITTER * crc32(content, attempts & 0xFFFFFFFF) / 2**32
        return Outcome.RETRY, delay


REQUEUE = Policy(Outcome.REQUEUE)
DEAD_LETTER = Policy(Outcome.DEAD_LETTER)


def policy_for(table: Mapping[type[BaseException], Policy], error: type[BaseException]) -> Policy:
    """The entry of the most specific class; the table must have one for `Exception`.

    What is no `Exception` (a `SystemExit` of the user's, say) is treated as one, and so is a
    class that cannot be looked up.
    """
    try:
        for base in _of_class("__mro__", error):
            if base in table:
                return table[base]
    except BaseException:  # its metaclass may compare and hash as it likes
        pass
    return table[Exception]


def next_attempts(outcome: int, handed_out: int) -> int:
    """The `attempts` of the next hand-out, after so many; a snooze counts none.

    It leaves one at the least, or a message that a handler has had would come as a new one.
    """
    return max(1, handed_out - 1) if outcome == Outcome.SNOOZE else handed_out


def class_name(error: type) -> str:
    """The qualified name of a class; without the module for Python's own. Never raises."""
    try:
        module, name = _of_class("__module__", error), _of_class("__qualname__", error)
    except BaseException:  # there need not be a module
        return "an unnamed class"
    return text(name if module == "builtins" else f"{module}.{name}")


def describe(error: BaseException | None) -> str:
    """An exception in one line: its class and what it says. Never raises."""
    if error is None:
        return ""
    name, words = class_name(type(error)), " ".join(said(error).split())
    return f"{name}: {words}" if words else name


def said(thing: object) -> str:
    """What an exception, or whatever was given as a reason, says. Never raises."""
    try:
        return text(str(thing))
    except BaseException:  # a broken __str__ of the user's must not cost an answer
        return ""


def text(value: str) -> str:
    """Cut to what travels, without secrets, and encodable: a lone surrogate would break the
    header it ends in."""
    # Also of a subclass with a mind of its own; a secret must not be cut before it is known.
    plain = masked(str.__getitem__(value, slice(4 * REASON)))[:REASON]
    return plain.encode("utf-8", "replace").decode()


def _of_class(attribute: str, error: type) -> Any:
    """What Python itself knows of a class, whatever its metaclass says."""
    return type.__dict__[attribute].__get__(error)


def requeue_delay(failures: int, random: Random) -> float:
    """Seconds to hold a delivery before it is requeued for the n-th time: 0, then 1, 2, 4 … 60.

    Jitter shortens it, so that a bulk of failures does not return as one wave.
    """
    if failures <= 1:
        return 0.0
    return float(min(60.0, 2.0 ** min(failures - 2, 6))) * (1.0 - JITTER * random.random())
