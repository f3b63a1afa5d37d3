"""The count of a message's failures, where the broker only says that it was delivered before."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

from actors.logic.consuming.frames import Delivery
from actors.logic.messages.properties import lasting

#: Messages to remember; the oldest is forgotten first, and then begins anew.
CAPACITY = 10_000


class Past(NamedTuple):
    """The history of a message that came back."""

    attempts: int = 0
    cleared: bool = False  #: each time by a mark of its own, in a bulk that raised nothing


class Recurrences:
    """Attempts by content. A classic queue gives a returned message no number and no
    counter, so what is equal is taken for the same: equal messages share their backoff."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._pasts: OrderedDict[bytes, Past] = OrderedDict()

    def failed(self, raw: bytes, attempts: int, *, marked: bool = False) -> None:
        """A delivery was given back after so many attempts; `marked`: by a mark of its own.

        One exception is enough to be wary of all that is equal.
        """
        key = _digest(raw)
        past = self._pasts.get(key)
        self._pasts[key] = Past(attempts, marked and (past is None or past.cleared))
        self._pasts.move_to_end(key)
        if len(self._pasts) > self._capacity:
            self._pasts.popitem(last=False)

    def past(self, raw: bytes) -> Past:
        """What came before this delivery, as far as is known here."""
        return self._pasts.get(_digest(raw), Past())


def _digest(raw: bytes) -> bytes:
    """Of what a message is, and not of how it was delivered."""
    delivery = Delivery(raw)
    content = blake2b(lasting(delivery.properties), digest_size=12)
    content.update(delivery.body)
    return content.digest()
