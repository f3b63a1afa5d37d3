"""Each delivery gets the one outcome of its handler, whatever becomes of the settlements.

The decisions of batcher and connection, with the way between them: it loses, repeats and
swaps settlements, and the rounds in which the two tell each other what they hold.
"""

from __future__ import annotations

from array import array
from itertools import count as counting
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.bulks.batching import Batching
from actors.logic.bulks.bulk import Draft
from actors.logic.bulks.handler_pool import HandlerPool
from actors.logic.bulks.route_queue import RouteQueue
from actors.logic.consuming.frames import settle
from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.ledger import Flush
from actors.logic.settlement.settling import Range, Settling, Single
from actors.roles.port import Fetched, Republish, Republished
from actors.roles.protocol import Deliveries, Outstanding, Settlement
from actors.roles.settler import Settler
from tests.support.channel import Channel
from tests.support.deliveries import chunk, delivery, receipts

RANGED = (Outcome.ACK, Outcome.REJECT)
SINGLE = (Outcome.REQUEUE, Outcome.DEAD_LETTER, Outcome.RETRY, Outcome.SNOOZE)


class World:
    """The client of a connection: a broker, and copies that are made in a while."""

    def __init__(self) -> None:
        self.channel = Channel()
        self.requests: list[Republish] = []
        self.copied: list[tuple[int, bool]] = []

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        self.channel.receive(settle(1, flush))

    def republish(self, request: Republish) -> None:
        assert request.raw == delivery(b"%d" % request.position)  # the very delivery
        self.requests.append(request)


class Context:
    """What a connection's traffic needs of an actor's."""

    def __init__(self) -> None:
        self.random = Random(0)
        self.sent: list[Any] = []

    def send(self, to: str, message: Any) -> None:
        self.sent.append(message)

    def remind(self, seconds: float, reminder: Any) -> None:
        raise AssertionError("no copy fails here")


class Pair:
    """A connection and a batcher, a handler that takes all, and a bad way between them."""

    def __init__(self, size: int, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.world, context = World(), Context()
        self.sent = context.sent
        made: Any = context
        client: Any = self.world
        self.settler = Settler("amqp", made, client)
        self.settler.meet("batcher")
        self.settler.unacked.begin(1, "q", "r", 1000)
        self.route_queue = RouteQueue("q", Batching(size, 10_000, 10.0), 2, 100.0, 3)
        self.handler_pool = HandlerPool([self.route_queue], counting(1))
        self.settling = Settling({"q": self.route_queue}, broker_copies=True, random=self.random)
        self.incarnation = 0
        self.way: list[Settlement] = []
        self.outcomes: dict[int, Outcome] = {}

    def deliver(self, count: int) -> None:
        first = len(self.world.channel.unacked) + len(self.world.channel.told) + 1
        bodies = [delivery(b"%d" % (first + index)) for index in range(count)]
        self.world.channel.unacked += range(first, first + count)
        made = chunk(bodies, first=first)
        ends = array("I", made.ends).tobytes()
        self.settler.fetched(Fetched("q", 1, first, made.blob, ends), self.now)
        deliveries = self.sent.pop()
        assert isinstance(deliveries, Deliveries)
        assert deliveries.first == first
        self.incarnation = deliveries.incarnation
        made.number = deliveries.number
        self.settling.chunk_table.confirm((), deliveries.open_from)
        self.settling.enter(made)
        self.route_queue.batching.add(made, self.now)

    def work(self) -> None:
        """A handler takes what there is, answers bulk by bulk, and may say it twice."""
        self.handler_pool.add_handler("h")
        while assigned := self.handler_pool.hand_out(self.now, True):
            for handed in (handed for _, bulks in assigned for handed in bulks):
                ranges, singles = self.decide(handed.draft)
                for _ in range(self.random.choice([1, 2])):
                    if self.handler_pool.answer("h", (handed.number,), self.now):
                        self.settling.settle(ranges, singles, self.now)
        self.tell(self.settling.take())

    def decide(self, draft: Draft) -> tuple[list[Range], list[Single]]:
        ranges, singles = [], []
        for epoch, position in receipts(draft):
            outcome = self.random.choice(RANGED + SINGLE)
            assert position not in self.outcomes  # it is handed out once
            self.outcomes[position] = outcome
            delay = self.random.choice([0.0, 3.0, 90.0])
            if outcome in RANGED:
                ranges.append(Range(epoch, position, position, outcome))
            else:
                singles.append(Single(epoch, position, outcome, delay, attempts=2))
        return ranges, singles

    def tell(self, entries: list[Range | Single]) -> None:
        ranges = tuple(entry for entry in entries if isinstance(entry, Range))
        singles = tuple(entry for entry in entries if isinstance(entry, Single))
        if entries:
            self.way.append(Settlement(self.incarnation, (), ranges, singles))

    def travel(self, fate: str) -> None:
        """One settlement of those on the way, not the first perhaps, arrives; or does not."""
        if not self.way:
            return
        place = self.random.randrange(len(self.way))
        message = self.way[place] if fate == "twice" else self.way.pop(place)
        if fate != "lost":
            self.settler.settlement(message, self.now)
            self.settler.flush(self.now)

    def copy(self) -> None:
        """A copy is safe; that may be said twice."""
        if self.world.requests:
            request = self.world.requests.pop(self.random.randrange(len(self.world.requests)))
            self.world.copied.append((request.position, request.dead))
            self.settler.on_republished(Republished(request.token), self.now)
            self.settler.on_republished(Republished(request.token), self.now)
            self.settler.flush(self.now)

    def round(self) -> None:
        """The connection says what it holds open, and the batcher repeats what it has said."""
        self.now += 2.0
        self.settler.flush(self.now)
        self.settler.ask_what_is_held(self.now)
        if self.sent:
            held = self.sent.pop()
            assert isinstance(held, Outstanding)
            chunk_table = self.settling.chunk_table
            chunk_table.confirm(held.numbers, held.next)
            self.tell(chunk_table.repeat(held.numbers))
            self.settler.held(Outstanding(tuple(chunk_table.numbers), held.next), self.now)

    def finish(self) -> None:
        """Nothing gets lost any more."""
        self.work()
        for _ in range(3):
            while self.way:
                self.travel("arrives")
            while self.world.requests:
                self.copy()
            self.round()
        self.settler.release(self.now)


def expected(outcome: Outcome, copied: bool) -> Outcome:
    """What the broker is told of a delivery, as far as it sees outcomes."""
    if outcome is Outcome.SNOOZE and not copied:
        return Outcome.RETURN
    return outcome if outcome in (*RANGED, Outcome.REQUEUE) else Outcome.ACK


STEPS = st.one_of(
    st.integers(1, 9),
    st.sampled_from(["work", "copy", "round", "arrives", "arrives", "lost", "twice"]),
)


@given(st.lists(STEPS, min_size=5, max_size=40), st.integers(1, 6), st.integers(0, 2**32))
def test_settlements_lost_swapped_and_repeated_leave_each_delivery_its_one_outcome(
    steps: list[int | str], size: int, seed: int
) -> None:
    pair = Pair(size, seed)
    for step in steps:
        match step:
            case int(count):
                pair.deliver(count)
            case "work" | "copy" | "round":
                getattr(pair, step)()
            case fate:
                pair.travel(fate)
        assert all(made.open >= 0 for made in pair.settling.chunk_table._chunks.values())
    pair.finish()
    copies = [position for position, _ in pair.world.copied]
    told = {position: expected(v, position in copies) for position, v in pair.outcomes.items()}
    assert pair.world.channel.told == told
    assert pair.world.channel.unacked == []
    assert len(set(copies)) == len(copies)
    dead = {position for position, outcome in pair.outcomes.items() if outcome == SINGLE[1]}
    assert {position for position, is_dead in pair.world.copied if is_dead} == dead
    # Nothing is kept of what is over.
    assert pair.settler.unacked.unsettled == 0
    assert pair.settler.unacked.sent_chunks.open() == []
    assert pair.settler.unacked.sent_chunks.bytes == 0
    assert not pair.settling.chunk_table.open
    pair.settling.chunk_table.confirm((), pair.settler.unacked.sent_chunks.next)
    assert pair.settling.chunk_table.numbers == []
    counts = pair.settler.unacked.counts["r"]
    total = counts.acked + counts.rejected + counts.requeued + counts.retried + counts.dead
    assert total == counts.received == len(told)
