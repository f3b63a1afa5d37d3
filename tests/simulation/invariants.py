"""What must hold whatever happens, looked at while a system plays.

I1  the world ends a message only as a handler or a policy decided for that very delivery
I2  a delivery is settled once, on the channel that it came from
I3  a handler sees a message again only where it is told so
I4  the ledger counts as unsettled what the world counts, and no more than the prefetch
I5  one live actor in each slot (`stage.FaultyStage`)
I6  once the faults are over, everything drains (`play.Play`)
I7  under ORDER_BY, no two bulks at work hold the same key, and a delivery is handled only
    once all that came before it with its key on its channel were decided or given back;
    where messages between actors get lost, all of those that a handler has had before.
    What is given back, and a chunk that gets lost, comes again behind, and is flagged
I8  a message is convicted of killing processes, or of being late, only where it did so alone
I9  the checkpoint of a stream never passes an event that is not decided
I10 a broker's limit of deliveries deletes nothing that a handler was given at a count at which
    it is to be rescued; only a rescue that is under way may lose its race with a connection
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from actors.api.message import Message
from actors.logic.consuming.frames import Delivery
from actors.logic.messages.records import unpack
from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.ledger import Flush
from actors.roles.connection import Connection
from actors.roles.port import Fetched, Lost, QueueLost, Republish
from actors.roles.protocol import ActorMessage, Bulk, Settlement
from actors.roles.settler import CROWDED_WAIT_S
from tests.simulation.faults import SILENCE, Faults
from tests.simulation.scene import Scene
from tests.simulation.stories import Broken, Receipt, Receipts, Story

#: What a handler says of a message that has not failed, and comes again.
UNCOUNTED = {Outcome.SNOOZE, Outcome.RETURN}

_ITEM = array("I").itemsize


class Witness:
    """Sees all that matters, and raises `Broken`."""

    def __init__(self, scene: Scene, faults: Faults) -> None:
        self.stories: dict[int, Story] = {}
        self.ends: Counter[int] = Counter()  #: how often the world ended a message
        self._scene = scene
        self._routes = {route.name: route for route in scene.pipeline.routes}
        self._faults = faults
        self._receipts = Receipts(0)
        self._at_work: dict[tuple[str, str], str] = {}  # handler, by route and key
        self._books: dict[str, dict[int, list[tuple[int, int]]]] = defaultdict(dict)
        self._dead: set[str] = set()
        self._losing = faults.any_of({"lose", "delay"})
        self._on_status: dict[str, set[int]] = defaultdict(set)

    def holds(self, condition: object, text: str) -> None:
        if not condition:
            raise Broken(text)

    def restarted(self) -> None:
        """Another system begins, whose actors have the names of the last one's."""
        self._at_work.clear()
        self._books.clear()
        self._on_status.clear()
        self._dead.clear()

    # ── connections ───────────────────────────────────────────────────────────

    def connected(self) -> Receipts:
        """A new connection process."""
        self._receipts = Receipts(self._receipts.serial + 1)
        return self._receipts

    def heard(self, name: str, event: Any) -> None:
        """A client reports to its actor."""
        if isinstance(event, Fetched):
            self._fetched(event)
        elif isinstance(event, Settlement):
            self._done(name, event)
        elif isinstance(event, QueueLost):
            self._receipts.open.pop(event.epoch, None)
        elif isinstance(event, Lost):
            self._receipts.open.clear()

    def _fetched(self, event: Fetched) -> None:
        receipts, start = self._receipts, 0
        opened = receipts.open.setdefault(event.epoch, set())
        for position, end in enumerate(array("I", event.ends), event.first):
            raw = event.blob[start:end]
            start = end
            number = int(Delivery(raw).body if self._scene.kind == "amqp" else unpack(raw).body)
            receipts[event.epoch, position] = Receipt(number, self.stories[number].key)
            opened.add(position)

    def settled(self, receipts: Receipts, epoch: int, flush: Flush) -> None:
        """A connection tells its client to settle."""
        opened = receipts.open.get(epoch, set())
        acked = [p for first, last in flush.acked for p in range(first, last + 1)]
        for position in (*acked, *flush.failed, *flush.returned, *flush.rejected):
            if position not in opened:
                raise Broken(f"I2: {position} of epoch {epoch} is settled, and was not open")
            opened.remove(position)
            receipts[epoch, position].closed = True
        for position in acked:
            self._may_end(receipts, epoch, position, "ack")
        for position in flush.rejected:
            self._may_end(receipts, epoch, position, "reject")

    def on_republished(self, receipts: Receipts, request: Republish) -> None:
        """A connection has a copy made in place of a delivery."""
        receipt = receipts[request.epoch, request.position]
        story, outcomes = self.stories[receipt.number], receipt.outcomes
        if request.reason.startswith("alone in a process that died"):
            most = self._routes[request.route].max_crashes
            text = f"I8: {receipt.number} died alone {story.alone} times, not {most}"
            self.holds(story.alone >= most, text)
        elif request.reason.startswith("the bulk took longer"):
            late = story.hung or self._faults.any_of({"hang", "stall"})
            self.holds(late or not request.dead, f"I8: {receipt.number} was not late")
        elif request.reason.startswith("came back "):
            self.holds(not receipt.handed, f"I10: {receipt.number} is rescued, and was handed out")
        elif request.dead:
            self.holds(Outcome.DEAD_LETTER in outcomes, f"I1: {receipt.number} is buried alive")
        else:
            waits = outcomes & {Outcome.RETRY, Outcome.SNOOZE}
            self.holds(waits, f"I1: {receipt.number} is tried again, which nobody decided")

    def copied(self, receipts: Receipts, request: Republish) -> None:
        """The copy is safe."""
        receipts[request.epoch, request.position].copied = True

    def audit(self, connection: Any, now: float) -> None:
        """The connection has done its work for now."""
        assert isinstance(connection, Connection)
        if not connection._supervisor:
            return  # it was not told yet what it is
        unacked = connection._settler.unacked
        for epoch, account in unacked._accounts.items():
            ledger, window = account.ledger, account.window
            known = len(self._receipts.open.get(epoch, ()))
            if ledger.unsettled != known:
                raise Broken(f"I4: {ledger.unsettled} unsettled in the ledger, {known} in fact")
            held = sum(until > now + CROWDED_WAIT_S for until, _, _ in ledger._held)
            if known > window or held > max(1, window // 2):
                raise Broken(f"I4: {known} unsettled and {held} held of {window}")

    # ── the world ─────────────────────────────────────────────────────────────

    def ended(self, receipts: Receipts, epoch: int, position: int, how: str) -> None:
        """The world forgets a message."""
        self._may_end(receipts, epoch, position, how)
        receipt = receipts[epoch, position]
        self.ends[receipt.number] += not receipt.copied

    def _may_end(self, receipts: Receipts, epoch: int, position: int, how: str) -> None:
        receipt = receipts.get((epoch, position))
        if receipt is None:
            raise Broken(f"I1: {how} of {position} of epoch {epoch}, which nobody has seen")
        outcome = Outcome.ACK if how == "ack" else Outcome.REJECT
        if outcome not in receipt.outcomes and not (how == "ack" and receipt.copied):
            raise Broken(f"I1: {how} of {receipt.number}, which nobody decided")

    def charged(self, receipts: Receipts, epoch: int, position: int) -> None:
        """The broker counts a failure, which must have been one: of a handler's, or its death."""
        receipt = receipts[epoch, position]
        failed = receipt.handed and not (receipt.outcomes and receipt.outcomes <= UNCOUNTED)
        unknown = self._scene.ordered or self._faults.any_of(SILENCE)
        self.holds(failed or unknown, f"I8: {receipt.number} is charged with no failure")

    def limited(self, number: int) -> None:
        """A quorum queue's limit of deliveries is spent, and its dead-letter exchange has it."""
        self.ends[number] += 1

    def deleted(self, receipts: Receipts, epoch: int, position: int, number: int) -> None:
        """The same without a dead-letter exchange: it is gone."""
        receipt = receipts.get((epoch, position))
        rescued = receipt is None or not receipt.handed
        self.holds(rescued, f"I10: the broker deleted {number}, which came back too often")
        self.ends[number] += 1

    # ── handlers ──────────────────────────────────────────────────────────────

    def posted(self, sender: str, to: str, message: ActorMessage) -> None:
        """An actor sends a message."""
        if isinstance(message, Bulk):
            receipts = [
                (piece.epoch, position)
                for piece in message.pieces
                for position in range(piece.first, piece.first + len(piece.ends) // _ITEM)
            ]
            for number, size in enumerate(message.sizes, message.number):
                self._books[to][number], receipts = receipts[:size], receipts[size:]
            if to in self._dead:
                self._accuse(to)
        elif isinstance(message, Settlement) and "/batcher#" in sender:
            for epoch, first, last, _ in message.ranges:
                self._close(epoch, range(first, last + 1))
            for single in message.singles:
                self._close(single.epoch, (single.position,))

    def _close(self, epoch: int, positions: Iterable[int]) -> None:
        for position in positions:
            if receipt := self._receipts.get((epoch, position)):
                receipt.closed = True

    def began(
        self, handler: str, route: str, bulk: list[tuple[tuple[int, int], Message[int]]]
    ) -> None:
        """A handler is given a bulk."""
        for (epoch, position), message in bulk:
            receipt = self._receipts.get((epoch, position))
            opened = self._receipts.open.get(epoch)
            if receipt is None or opened is None:
                continue  # late, on a channel that has ended: it may overtake what came instead
            self.holds(position in opened, f"I2: {receipt.number} is handled once it was settled")
            receipt.handed = True
            story = self.stories[receipt.number]
            told = message.redelivered and message.attempts > 0
            restarted = self._scene.kind == "sse" and story.told_to != self._receipts.serial
            if story.seen and not (told or restarted):
                raise Broken(f"I3: {receipt.number} came again as if it were new")
            story.told_to = self._receipts.serial
        if self._routes[route].order_by:
            self._in_order(handler, route, [receipt for receipt, _ in bulk])

    def _in_order(self, handler: str, route: str, bulk: list[tuple[int, int]]) -> None:
        before: set[int] = set()
        for epoch, position in bulk:
            receipt = self._receipts.get((epoch, position))
            if receipt is None:
                continue
            other = self._at_work.get((route, receipt.key))
            if other is not None and not (before and other == handler):
                raise Broken(f"I7: {receipt.number} is handled beside one of its key at {other}")
            for earlier in range(1, position):
                one = self._receipts.get((epoch, earlier))
                if one is None or one.closed or one.key != receipt.key or earlier in before:
                    continue
                if one.handed or not self._losing:
                    raise Broken(f"I7: {receipt.number} is handled before {one.number}")
            before.add(position)
        for place in bulk:
            if mine := self._receipts.get(place):
                self._at_work[route, mine.key] = handler

    def _done(self, handler: str, done: Settlement) -> None:
        for epoch, first, last, outcome in done.ranges:
            for position in range(first, last + 1):
                self._decide(handler, epoch, position, outcome)
        for single in done.singles:
            self._decide(handler, single.epoch, single.position, single.outcome)
        self._on_status[handler].update(done.numbers)

    def _decide(self, handler: str, epoch: int, position: int, outcome: int) -> None:
        if receipt := self._receipts.get((epoch, position)):
            receipt.outcomes.add(outcome)
            self._rest(handler, receipt.key)

    def _rest(self, handler: str, key: str) -> None:
        for place in [p for p, at in self._at_work.items() if at == handler and p[1] == key]:
            del self._at_work[place]

    def died(self, handler: str) -> None:
        """A handler's process is gone, with what it had in hand."""
        self._dead.add(handler)
        self._accuse(handler)
        self._at_work = {place: at for place, at in self._at_work.items() if at != handler}

    def _accuse(self, handler: str) -> None:
        """What was alone in a process that died, as far as its batcher can know: it was sent
        there, perhaps too late, and no answer of its neighbours was ever sent."""
        answered = self._on_status[handler]
        book = self._books[handler]
        open_ = [r for number, bulk in book.items() if number not in answered for r in bulk]
        single = [bulk[0] for bulk in book.values() if len(bulk) == 1]
        for place in open_ if len(open_) == 1 else [] if open_ else single:
            if receipt := self._receipts.get(place):
                self.stories[receipt.number].alone += 1
