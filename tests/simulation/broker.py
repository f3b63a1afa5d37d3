"""A model of RabbitMQ: classic and quorum queues, before 4.3 and from then on."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from functools import partial
from math import inf
from struct import Struct
from typing import Any

from actors.connectors.rabbitmq.publishing.copies import headers as told_by
from actors.logic.consuming.frames import Delivery
from actors.plan.plan import PipelinePlan
from actors.roles.port import QueueLost, Republish
from tests.simulation.amqpclient import BrokerClient
from tests.simulation.letters import Channel, Letter
from tests.simulation.link import Link
from tests.simulation.peer import Peer

_SETTLE = Struct(">BHIIQBB")
_ACK, _REJECT = 0x003C0050, 0x003C005A

#: Seconds for which a classic queue that crashes forgets acknowledgements.
FORGETS = 1.0

#: Seconds for which a broker waits for a settlement, if it does not wait for ever.
PATIENCE = 60.0


class Broker(Peer):
    """Queues and the links to them.

    An unknown delivery tag closes a channel of RabbitMQ's; here it ends the play.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.quorum = self.scene.world.startswith("quorum")
        self.links: list[Link] = []
        self.patience = self.random.choice((inf, PATIENCE))  #: seconds for a settlement
        self.storing = True  #: whether copies are taken
        self._is_new = self.scene.world == "quorum 4.3"
        self._ready: dict[str, list[Letter]] = {queue: [] for queue in self.scene.queues}
        self._returned: dict[str, deque[Letter]] = {q: deque() for q in self.scene.queues}
        self._outside: list[Letter] = []  # retries that wait outside their queues
        self._acked: deque[tuple[float, Letter]] = deque()

    def client(self, plan: PipelinePlan) -> BrokerClient:
        return BrokerClient(self)

    @property
    def limit(self) -> int | None:
        """Returns beyond which a message is gone for good; None where it has another way."""
        return None if self.scene.dead_letter_exchange else self.scene.limit

    # ── queues ────────────────────────────────────────────────────────────────

    def put(self, number: int, key: str, queue: str) -> None:
        self._store(Letter(number, key, queue))

    def depth(self, queue: str) -> int:
        return len(self._ready[queue]) + len(self._returned[queue])

    def left(self) -> list[int]:
        letters = [letter for queue in self._ready.values() for letter in queue]
        letters += [letter for queue in self._returned.values() for letter in queue]
        for link in self.links:
            letters += [one for c in link.channels.values() for one in c.unacked.values()]
        return [letter.number for letter in (*letters, *self._outside)]

    def serve(self) -> None:
        """Deliver what there is to whoever has room."""
        for link in self.links:
            for channel in link.channels.values():
                back, queue = self._returned[channel.queue], self._ready[channel.queue]
                while channel.room and (back or queue):
                    channel.deliver(back.popleft() if back else queue.pop(0))
                    if self.patience < inf:
                        overdue = partial(self._look_at, channel, channel.last)
                        self.at(self.now + self.patience, overdue)

    def copy(self, request: Republish) -> None:
        """Store a copy: a dead letter, or one that waits outside its queue."""
        body = Delivery(request.raw).body
        number = int(body)
        if request.dead:
            self.witness.ends[number] += 1
            return
        letter = Letter(number, self.witness.stories[number].key, request.queue)
        letter.told = told_by(request, b"", body)
        self._outside.append(letter)
        self.at(self.now + request.delay, lambda: self._ripen(letter))

    def _ripen(self, letter: Letter) -> None:
        self._outside.remove(letter)
        self._store(letter)

    def _store(self, letter: Letter) -> None:
        letter.place = next(self._order)
        insort(self._ready[letter.queue], letter)
        self.serve()

    def _take_back(self, letters: Iterable[Letter], *, counted: bool) -> None:
        """To their places in a classic queue, before all others in a quorum queue."""
        for letter in letters:
            letter.redelivered = True
            letter.count += counted and self.quorum
            letter.acquired += self._is_new
            if not self.quorum:
                insort(self._ready[letter.queue], letter)
            else:
                self._returned[letter.queue].append(letter)

    def _give_up(self, channel: Channel, tags: Iterable[int]) -> list[Letter]:
        """What a channel has no longer, without what came back to its queue too often."""
        kept = []
        for tag in tags:
            letter = channel.unacked.pop(tag)
            if self.scene.limit is None or letter.count < self.scene.limit:
                kept.append(letter)
            elif self.limit is None:
                self.witness.limited(letter.number)
            else:
                self.witness.deleted(channel.link.receipts, channel.epoch, tag, letter.number)
        return kept

    # ── what clients say ──────────────────────────────────────────────────────

    def settle(self, channel: Channel, frames: bytes) -> None:
        """Basic.ack, basic.nack and basic.reject: what counts toward the limit of a quorum
        queue is everything before 4.3, and from then on all but basic.nack."""
        witness, receipts = self.witness, channel.link.receipts
        for _, _, _, method, tag, bits, _ in _SETTLE.iter_unpack(frames):
            if tag in channel.taken:
                continue
            known = tag in channel.unacked
            witness.holds(known, f"I2: unknown delivery tag {tag} on {channel.queue}")
            if method == _ACK:
                for one in [t for t in channel.unacked if t <= tag] if bits else [tag]:
                    self._acked.append((self.now, channel.unacked.pop(one)))
                    witness.ended(receipts, channel.epoch, one, "ack")
            elif method == _REJECT and not bits:
                del channel.unacked[tag]
                witness.ended(receipts, channel.epoch, tag, "reject")
            else:
                if method == _REJECT:
                    witness.charged(receipts, channel.epoch, tag)
                counted = method == _REJECT or not self._is_new
                back = self._give_up(channel, [tag]) if counted else [channel.unacked.pop(tag)]
                self._take_back(back, counted=counted)
        self.serve()

    def drop(self, link: Link) -> None:
        """A connection is gone; what was on it comes back."""
        if link in self.links:
            self.links.remove(link)
            for channel in link.channels.values():
                self.end(channel)
            link.channels.clear()
            self.serve()

    def end(self, channel: Channel) -> None:
        """A channel is gone; what was on it comes back."""
        self._take_back(self._give_up(channel, list(channel.unacked)), counted=True)

    # ── troubles ──────────────────────────────────────────────────────────────

    def suffer(self, kind: str) -> None:
        for link in list(self.links):
            if kind == "half open":
                link.fall_silent()
            elif kind != "cancel":
                link.reset(kind)
            elif link.channels:
                self._cancel(self.random.choice(list(link.channels.values())))
        if kind == "crash":
            recent = [letter for at, letter in self._acked if at >= self.now - FORGETS]
            if not self.quorum:
                self._take_back(recent, counted=False)
            self._acked.clear()
            self.serve()

    def give_up(self) -> None:
        for link in list(self.links):
            link.hang_up()

    def round(self) -> None:
        super().round()
        self.storing = not self.faults.strikes("refused")

    def rest(self) -> None:
        super().rest()
        self.storing = True

    def _look_at(self, channel: Channel, tag: int) -> None:
        living = channel.link.channels.get(channel.epoch) is channel and channel.link in self.links
        if living and tag in channel.unacked:
            self._cancel(channel)

    def _cancel(self, channel: Channel) -> None:
        """A consumer took too long: its channel is closed. From 4.3 on it is cancelled, and
        its channel takes settlements of what is no longer on it."""
        self.revoked += len(channel.unacked)
        if self._is_new:
            channel.consuming = False
            channel.taken.update(channel.unacked)
        else:
            del channel.link.channels[channel.epoch]
        self.end(channel)
        channel.link.say(QueueLost(channel.queue, channel.epoch, "a consumer took too long"))
        self.serve()
