"""The bulks that a worker held when it was killed as a whole, and what they say of a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from actors.logic.consuming.frames import Delivery
from actors.logic.messages.properties import lasting

#: Bytes of a body that tell one message from another, beside its properties and its size.
BEGINNING = 1024


def identity(raw: bytes | memoryview) -> bytes:
    """What a message of a broker is, however often it is delivered; equal ones share it."""
    delivery = Delivery(raw)
    digest = blake2b(lasting(delivery.properties), digest_size=16)
    digest.update(delivery.size.to_bytes(8, "big") + delivery.beginning(BEGINNING))
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Deaths:
    """Workers that were killed with a message in hand."""

    all: int = 0
    alone: int = 0  #: with no other in hand

    def convicts(self, most: int) -> bool:
        """Whether that is enough: the first may have been in company, no other."""
        return self.all >= most and self.alone >= max(1, most - 1)


def inherited(
    held: Iterable[bytes], before: Mapping[bytes, Deaths]
) -> tuple[dict[bytes, Deaths], set[bytes]]:
    """What the next worker has to know: the deaths of every message that it knew or had in hand,
    and which those were. `held`: the identity of each delivery that a killed worker held."""
    messages = list(held)
    deaths = dict(before)
    alone = len(messages) == 1
    for message in dict.fromkeys(messages):
        past = deaths.get(message, Deaths())
        deaths[message] = Deaths(past.all + 1, past.alone + alone)
    return deaths, set(messages)
