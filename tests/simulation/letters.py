"""Messages of the model broker, and the channels that they are delivered on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actors.logic.messages.properties import encoded, table

if TYPE_CHECKING:
    from tests.simulation.link import Link


@dataclass(slots=True, eq=False)
class Letter:
    """One message in a queue; a copy of it is another."""

    number: int
    key: str
    queue: str
    place: int = 0  #: in its queue
    redelivered: bool = False
    count: int = 0  #: `x-delivery-count` of a quorum queue
    acquired: int = 0  #: `x-acquired-count`, of one from 4.3 on
    told: dict[str, str | int] = field(default_factory=dict)  #: by the headers of a copy

    def __lt__(self, other: Letter) -> bool:
        return self.place < other.place

    def frames(self, channel: int, tag: int) -> bytes:
        """Method, header and body frame of its delivery."""
        told = {"key": self.key, **self.told}
        if self.count:
            told["x-delivery-count"] = self.count
        if self.acquired:
            told["x-acquired-count"] = self.acquired
        body = b"%d" % self.number
        routing_key = self.queue.encode()
        flag = b"\x01" if self.redelivered else b"\x00"
        method = b"\x00\x3c\x00\x3c\x01c" + tag.to_bytes(8, "big") + flag
        method += b"\x00" + len(routing_key).to_bytes(1, "big") + routing_key
        header = b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big")
        header += b"\x20\x00" + table(encoded(told))
        return b"".join(
            _frame(kind, channel, p) for kind, p in enumerate((method, header, body), 1)
        )


@dataclass(slots=True, eq=False)
class Channel:
    """One consumer, on the broker's side."""

    link: Link
    queue: str
    epoch: int
    window: int
    consuming: bool = True
    last: int = 0
    unacked: dict[int, Letter] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)  #: back already, and may still be settled

    @property
    def room(self) -> bool:
        return self.consuming and len(self.unacked) < self.window

    def deliver(self, letter: Letter) -> None:
        self.last += 1
        self.unacked[self.last] = letter
        frames = letter.frames(self.epoch, self.last)
        self.link.say((self.queue, self.epoch, frames, letter))


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    head = kind.to_bytes(1, "big") + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big")
    return head + payload + b"\xce"
