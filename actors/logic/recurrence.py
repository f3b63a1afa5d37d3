"""How often a message failed, where the broker only says that it was delivered before."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

#: Messages to remember; the oldest is forgotten first, and then begins anew.
CAPACITY = 10_000


class Recurrences:
    """Attempts by content. A classic queue gives a returned message no number and no
    counter, so what is equal is taken for the same: equal messages share their backoff."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._attempts: OrderedDict[bytes, int] = OrderedDict()

    def failed(self, raw: bytes, attempts: int) -> None:
        """A delivery was given back after so many attempts."""
        key = _digest(raw)
        self._attempts[key] = attempts
        self._attempts.move_to_end(key)
        if len(self._attempts) > self._capacity:
            self._attempts.popitem(last=False)

    def attempts(self, raw: bytes) -> int:
        """Attempts before this one, as far as is known here."""
        return self._attempts.get(_digest(raw), 0)


def _digest(raw: bytes) -> bytes:
    """Of a delivery without its first frame, which holds the tag and differs each time."""
    content = raw[8 + int.from_bytes(raw[3:7], "big") :]
    return blake2b(content, digest_size=12).digest()
