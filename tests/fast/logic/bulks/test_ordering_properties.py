"""Messages of one key, one after another: under failures, crashes and epochs that end."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from actors.logic.bulks.bulk import Chunk, Draft
from actors.logic.bulks.ordering import Ordering
from tests.support.deliveries import Receipt, chunk, one, receipts

KEYS = st.lists(st.sampled_from("aaabbc"), min_size=1, max_size=6)


@dataclass
class World:
    """An ordered route whose handlers take, settle, fail and die; each step is drawn."""

    route_queue: Ordering
    now: float = 0.0
    epoch: int = 1
    chunks: list[Chunk] = field(default_factory=list)
    in_hand: list[Draft] = field(default_factory=list)
    settled: list[Receipt] = field(default_factory=list)

    def key(self, receipt: Receipt) -> str:
        made, index = self.find(receipt)
        return made.raw(index)[:1].decode()

    def find(self, receipt: Receipt) -> tuple[Chunk, int]:
        epoch, position = receipt
        (made,) = (c for c in self.chunks if c.epoch == epoch and c.first <= position <= c.last)
        return made, position - made.first

    def arrive(self, keys: list[str]) -> None:
        first = 1 + sum(len(c.ends) for c in self.chunks if c.epoch == self.epoch)
        number = len(self.chunks) + 1
        bodies = [key.encode() * 3 for key in keys]
        self.chunks.append(chunk(bodies, number=number, epoch=self.epoch, first=first))
        self.route_queue.add(self.chunks[-1], self.now)

    def take(self, flush: bool) -> None:
        if draft := self.route_queue.take(self.now, flush):
            self.in_hand.append(draft)
            held = [{self.key(receipt) for receipt in receipts(d)} for d in self.in_hand]
            assert sum(map(len, held)) == len(set().union(*held))  # no key is in two hands
            assert all(a < b for a, b in self.neighbours(receipts(draft)))
            if draft.alone:
                assert draft.size == 1

    def neighbours(self, held: list[Receipt]) -> list[tuple[int, int]]:
        """Places of those of one key that stand behind one another."""
        behind = []
        last: dict[str, int] = {}
        for receipt in held:
            place, key = self.place(receipt), self.key(receipt)
            if key in last:
                behind.append((last[key], place))
            last[key] = place
        return behind

    def place(self, receipt: Receipt) -> int:
        made, index = self.find(receipt)
        return made.number * 1000 + index

    def answer(self, fates: list[int]) -> None:
        """A handler settles some of its bulk and fails at the rest: now, or for a while."""
        draft = self.in_hand.pop(0)
        for receipt, fate in zip(receipts(draft), fates * draft.size, strict=False):
            made, index = self.find(receipt)
            if fate == 0 or receipt[0] < self.epoch:
                self.route_queue.settled(one(made, index))
                self.settled.append(receipt)
            else:
                made.attempts[index] = made.attempts.get(index, 0) + 1
                self.route_queue.again([(made, index, self.now + fate - 1)], self.now)

    def crash(self) -> None:
        draft = self.in_hand.pop(0)
        draft.count_attempt()
        failed = [(c, index, 0.0) for c, index in draft.deliveries()]
        self.route_queue.again(failed, self.now, alone=True)
        self.route_queue.drop("q", self.epoch)

    def end_epoch(self) -> None:
        self.epoch += 1
        self.route_queue.drop("q", self.epoch)

    def alive(self) -> list[Receipt]:
        held = {receipt for draft in self.in_hand for receipt in receipts(draft)}
        live = [c for c in self.chunks if c.epoch == self.epoch]
        found = [(c.epoch, c.first + index) for c in live for index in range(len(c.ends))]
        return [r for r in found if r not in self.settled and r not in held]


STEPS = st.one_of(
    st.tuples(st.just("arrive"), KEYS),
    st.tuples(st.just("take"), st.booleans()),
    st.tuples(st.just("take"), st.booleans()),
    st.tuples(st.just("answer"), st.lists(st.integers(0, 3), min_size=1, max_size=4)),
    st.tuples(st.just("crash")),
    st.tuples(st.just("wait")),
    st.tuples(st.just("end")),
)


@given(st.lists(STEPS, min_size=5, max_size=40), st.integers(1, 5), st.sampled_from([0, 2, 3]))
def test_no_key_is_in_two_hands_nothing_is_lost_and_order_is_kept(
    steps: list[tuple[str, object]], size: int, last_alone: int
) -> None:
    world = World(Ordering(size, 12, 10.0, last_alone, lambda raw: raw[:1].decode()))
    for name, *arguments in steps:
        match name, arguments:
            case "arrive", [list(keys)]:
                world.arrive(keys)
            case "take", [bool(flush)]:
                world.take(flush)
            case "answer", [list(fates)] if world.in_hand:
                world.answer(fates)
            case "crash", [] if world.in_hand:
                world.crash()
            case "wait", []:
                world.now += 1.0
            case "end", []:
                world.end_epoch()
        assert world.route_queue.size == len(world.alive())
    finish(world)


def finish(world: World) -> None:
    """When nothing fails any more, all is settled, each key in order, and nothing is kept."""
    while world.in_hand:
        world.answer([0])
    begun = len(world.settled)
    while world.route_queue.size:
        world.now += 1.0
        world.take(flush=True)
        while world.in_hand:
            world.answer([0])
    assert world.alive() == []
    assert len(set(world.settled)) == len(world.settled)
    assert all(a < b for a, b in world.neighbours(world.settled[begun:]))
    assert not world.route_queue._keys
    assert not world.route_queue._in_hand
    assert not world.route_queue._route_queues


@given(st.lists(KEYS, min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 999))
def test_without_flush_all_comes_out_once_it_is_old_and_one_is_told_when(
    arrivals: list[list[str]], size: int, seed: int
) -> None:
    world = World(Ordering(size, 12, 10.0, 0, lambda raw: raw[:1].decode()))
    drawn = random.Random(seed)
    for keys in arrivals:
        world.arrive(keys)
        world.now += drawn.choice([0.0, 0.5])
    for _ in range(500):
        world.take(flush=False)
        while world.in_hand:
            world.answer([drawn.choice([0, 0, 1, 3])])
            world.take(flush=False)
        if not world.route_queue.size:
            break
        due = world.route_queue.due(world.now)
        assert due is not None
        assert due > world.now
        world.now = due
    assert world.route_queue.size == 0


@given(st.lists(KEYS, min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_a_drain_returns_what_waits_for_a_failed_one_and_keeps_the_rest(
    arrivals: list[list[str]], fates: list[int]
) -> None:
    world = World(Ordering(3, 100, 10.0, 0, lambda raw: raw[:1].decode()))
    for keys in arrivals:
        world.arrive(keys)
    world.take(flush=True)
    world.answer(fates)
    before = world.route_queue.size
    given_back = world.route_queue.give_back(world.now)
    assert world.route_queue.size == before - len(given_back)
    returned = {(c.epoch, c.first + index) for c, index, _ in given_back}
    assert len(returned) == len(given_back)
    world.settled += returned
    while world.route_queue.size:  # without any time passing
        world.take(flush=True)
        world.answer([0])
    assert world.alive() == []
