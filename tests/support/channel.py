"""A channel of RabbitMQ by its own rules for delivery tags, to replay settlements on."""

from __future__ import annotations

from struct import Struct

from actors.logic.settlement.failure import Outcome

FRAME = Struct(">BHIIQBB")  # type, channel, size, method, delivery tag, bits, end
ACK, REJECT, NACK = 0x003C0050, 0x003C005A, 0x003C0078
MULTIPLE, REQUEUE = 1, 1


class Channel:
    """What is unacknowledged, and what was said of the rest."""

    def __init__(self) -> None:
        self.unacked: list[int] = []
        self.told: dict[int, Outcome] = {}

    def receive(self, frames: bytes) -> None:
        for _, _, _, method, tag, bits, _ in FRAME.iter_unpack(frames):
            # PRECONDITION_FAILED, unknown delivery tag: the channel would be closed.
            assert tag in self.unacked
            if method == ACK and bits & MULTIPLE:
                for below in [t for t in self.unacked if t <= tag]:
                    self._settle(below, Outcome.ACK)
            elif method == ACK:
                self._settle(tag, Outcome.ACK)
            elif method == REJECT:
                self._settle(tag, Outcome.REQUEUE if bits & REQUEUE else Outcome.REJECT)
            else:
                assert (method, bits) == (NACK, 2)
                self._settle(tag, Outcome.RETURN)

    def _settle(self, tag: int, outcome: Outcome) -> None:
        self.unacked.remove(tag)
        self.told[tag] = outcome
