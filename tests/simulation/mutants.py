"""Bugs on purpose: each takes away one thing that keeps messages safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

from actors.logic.bulks.bulk import Draft, Slice
from actors.logic.bulks.handler_pool import HandlerPool
from actors.logic.bulks.ordering import Ordering
from actors.logic.bulks.route_queue import Suspects
from actors.logic.consuming.event_buffer import Checkpoint
from actors.logic.settlement import settling
from actors.logic.settlement.failure import Outcome
from actors.logic.settlement.ledger import Flush, Ledger
from actors.logic.settlement.settling import Sequence, Settling, Single
from actors.logic.settlement.unacked import SentChunks, Unacked
from actors.logic.supervision.children import Children, Slot
from actors.roles import settler
from actors.roles.batcher import Batcher
from actors.roles.connection import Connection
from actors.roles.handler import Handler
from actors.roles.port import RepublishFailed
from actors.roles.settler import Settler


class Mutant(NamedTuple):
    """A bug, and the invariants that it may break."""

    changes: tuple[tuple[Any, str, Callable[..., Any]], ...]
    breaks: frozenset[str]

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, function in self.changes:
                stack.enter_context(mock.patch.object(owner, name, function))
            yield


def mutant(breaks: str, *changes: tuple[Any, str, Callable[..., Any]]) -> Mutant:
    return Mutant(changes, frozenset(breaks.split()))


# ── settlements ───────────────────────────────────────────────────────────────

_settle_in_custody = Unacked.settle
_settle_in_ledger = Ledger.settle
_flush = Ledger.flush
_republish = Settler._republish
_failed = Settler._failed


def _settle_any_epoch(
    self: Unacked, epoch: int, first: int, last: int, outcome: int, attempts: int = 0
) -> None:
    epoch = epoch if epoch in self._accounts else max(self._accounts, default=epoch)
    _settle_in_custody(self, epoch, first, last, outcome, attempts)


def _settle_again(self: Ledger, first: int, last: int, outcome: Any, attempts: int = 0) -> int:
    self._close(first, last, outcome)
    return last - first + 1


def _settle_in_order_of_arrival(
    self: Ledger, first: int, last: int, outcome: Any, attempts: int = 0
) -> int:
    end = self.prefix + 1 + last - first
    return _settle_in_ledger(self, self.prefix + 1, end, outcome, attempts)


def _flush_too_far(self: Ledger) -> Flush | None:
    flush = _flush(self)
    if flush and flush.acked:
        flush = flush._replace(prefix=max(last for _, last in flush.acked))
    return flush


def _acknowledge_before_the_copy(self: Settler, single: Any, attempts: int, now: float) -> None:
    _republish(self, single, attempts, now)
    self.unacked.finish(single.epoch, single.position)


def _try_for_ever(self: Settler, is_republishing: Any, event: RepublishFailed, now: float) -> None:
    _failed(self, is_republishing, RepublishFailed(event.token, event.cause), now)


# ── deaths ────────────────────────────────────────────────────────────────────

_named = Children.named


def _lose_nothing(self: HandlerPool, handler: str, overdue: int, now: float) -> dict[str, Any]:
    self.handlers.pop(handler)
    return {}


def _keep_what_the_dead_batcher_had(self: Settler, batcher: str) -> None:
    if batcher != self.batcher:
        self.batcher, self.unacked.sent_chunks = batcher, SentChunks()


def _named_by_slot(self: Children, name: str) -> Slot | None:
    path = name.partition("#")[0]
    return _named(self, name) or next((s for s in self if s.path == path and s.name), None)


def _all_are_guilty(self: Suspects, drafts: list[Draft], *, alone: bool) -> list[Draft]:
    return drafts


def _count_nothing(self: Draft) -> None:
    pass


# ── what gets lost, repeated and overtaken ────────────────────────────────────

_put = Sequence.put
_drain = Batcher._drain
_all_is_decided = Connection._all_is_decided
_settle_checkpoint = Checkpoint.settle
_take = Ordering.take


def _miss_nothing(self: SentChunks, known: set[int], waits_for: int, before: float) -> list[Any]:
    return []


def _put_although_given_up(self: Sequence[Any], number: int, thing: Any) -> list[Any]:
    return [thing] if number < self.next else _put(self, number, thing)


def _close_by_any_word(self: Handler, below: int, awaited: set[int]) -> None:
    self._closed_below, self._awaited = below, awaited
    for number in [n for n in self._answered if n < below and n not in awaited]:
        del self._answered[number]


def _drain_at_once(self: Batcher, last_chunk: int, now: float) -> None:
    _drain(self, 0, now)


def _believe_the_batcher(self: Connection) -> bool:
    return _all_is_decided(self) or (self._consumers.stopped and self._batcher_drained)


def _settle_past_a_gap(self: Checkpoint, number: int) -> None:
    passed = number - self._first
    id = self._open[passed] if passed >= 0 else self.id
    _settle_checkpoint(self, number)
    self.id = id


def _take_and_forget_the_keys(self: Ordering, now: float, flush: bool = False) -> Draft | None:
    draft = _take(self, now, flush)
    self._in_hand.clear()
    return draft


def _endanger_nothing(self: Batcher, chunk: Any, limit: int | None) -> dict[int, Any]:
    return {}


def _give_back_as_new(self: Settling, now: float) -> None:
    self.draining = True
    for route_queue in set(self._route_queues.values()):
        for chunk, index, _ in route_queue.batching.give_back(now):
            entry = Single(chunk.epoch, chunk.first + index, Outcome.RETURN)
            self._say(Slice(chunk, index, index + 1), entry)


def _snoozed_as_new(outcome: int, handed_out: int) -> int:
    return handed_out - (outcome == Outcome.SNOOZE)


def _release_nothing(self: Ordering, key: str) -> None:
    pass


MUTANTS = {
    "no epoch check": mutant("I1 I2 I4", (Unacked, "settle", _settle_any_epoch)),
    "no settle-once check": mutant("I2", (Ledger, "settle", _settle_again)),
    "no release at a handler's death": mutant("I6", (HandlerPool, "lose", _lose_nothing)),
    "no release at a batcher's death": mutant(
        "I6", (Settler, "meet", _keep_what_the_dead_batcher_had)
    ),
    "a restart on a duplicate exit notice": mutant("I5", (Children, "named", _named_by_slot)),
    "a settlement acknowledged in order of arrival": mutant(
        "I1", (Ledger, "settle", _settle_in_order_of_arrival)
    ),
    "a lost chunk nobody misses": mutant("I6", (SentChunks, "missing", _miss_nothing)),
    "a checkpoint past a gap": mutant("I9", (Checkpoint, "settle", _settle_past_a_gap)),
    "an innocent counted as poison": mutant("I8", (Suspects, "died", _all_are_guilty)),
    "a drain that overtakes a chunk": mutant(
        "I6",
        (Batcher, "_drain", _drain_at_once),
        (Connection, "_all_is_decided", _believe_the_batcher),
    ),
    "an ack of more than the contiguous prefix": mutant("I1 I2", (Ledger, "flush", _flush_too_far)),
    "a copy that is not waited for": mutant(
        "I1", (Settler, "_republish", _acknowledge_before_the_copy)
    ),
    "a copy that is tried for ever": mutant("I6", (Settler, "_failed", _try_for_ever)),
    # On an ordered route the second copy of a delivery has no key any more, once the first ended.
    "a number given up, then accepted": mutant(
        "I2 I3 I7 KeyError", (Sequence, "put", _put_although_given_up)
    ),
    "a stale word of what is held": mutant("I2 I3", (Handler, "_close", _close_by_any_word)),
    "a hand-out that is not counted": mutant("I3", (Draft, "count_attempt", _count_nothing)),
    "no rescue": mutant("I10", (Batcher, "_endangered", _endanger_nothing)),
    "a give-back of an ordered route as of what is new": mutant(
        "I3", (Settling, "give_back", _give_back_as_new)
    ),
    "a snooze that comes as if it were new": mutant(
        "I3",
        (settler, "next_attempts", _snoozed_as_new),
        (settling, "next_attempts", _snoozed_as_new),
    ),
    "two of one key at once": mutant(
        "I7",
        (Ordering, "take", _take_and_forget_the_keys),
        (Ordering, "_release", _release_nothing),
    ),
}  # fmt: skip
