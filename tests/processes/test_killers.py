"""What a killed worker had in hand, at the batcher of the next one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest

from actors.connectors.journal import NoJournal
from actors.logic.bulks.deaths import Deaths, identity
from actors.logic.settlement.failure import DEAD_LETTER, REQUEUE, Outcome, Policy
from actors.plan.plan import PipelinePlan, RoutePlan
from actors.roles.batcher import Batcher
from actors.roles.protocol import (
    Bulk,
    Configure,
    Deliveries,
    Neighbours,
    Range,
    Settlement,
)
from tests.fast.flows.test_lost_chunk import Context
from tests.support.deliveries import framed

KILLER = b"killer"

#: It comes back by itself after a while.
RETRY = Policy(Outcome.RETRY, 5, 10.0, 1.0, 10.0)


def redelivered(body: bytes) -> bytes:
    return framed(body, b"\0\0", True)


class Successor(Context):
    """A batcher that knows of killed workers, and its neighbours."""

    def __init__(self, route: RoutePlan, deaths: Deaths, handlers: Sequence[str]) -> None:
        super().__init__("batcher")
        self.hands = NoJournal()
        self.hands.deaths = {identity(redelivered(KILLER)): deaths}
        self.hands.suspects = set(self.hands.deaths)
        here: Any = self
        self.batcher = Batcher(here)
        plan = PipelinePlan("amqp", "amqp", "{}", (route,))
        self.batcher.on(Configure(plan, "batcher"), "pipeline", 0.0)
        present = tuple((name, "r") for name in handlers)
        self.batcher.on(Neighbours("connection", "batcher", present, 1), "pipeline", 0.0)

    def client(self, kind: str, settings: Any) -> NoJournal:
        return self.hands

    def deliver(self, *bodies: bytes) -> None:
        raw = [redelivered(body) for body in bodies]
        ends = array("I", accumulate(map(len, raw))).tobytes()
        flagged = tuple((index, 1) for index in range(len(raw)))
        deliveries = Deliveries(1, 1, 7, "q", 1, 1, b"".join(raw), ends, flagged)
        self.batcher.on(deliveries, "connection", 0.0)

    def bulks(self) -> list[tuple[int, list[int]]]:
        """What was handed out, as (its number, positions)."""
        return [
            (
                bulk.number,
                [
                    piece.first + index
                    for piece in bulk.pieces
                    for index in range(len(array("I", piece.ends)))
                ],
            )
            for bulk in self.take(Bulk)
        ]

    def handle(self, handler: str, number: int, position: int, now: float = 1.0) -> None:
        answer = Settlement(0, (number,), (Range(1, position, position, Outcome.ACK),))
        self.batcher.on(answer, handler, now)


def route(**options: Any) -> RoutePlan:
    return replace(RoutePlan("r", ("q",)), **options)


ORDERS = pytest.mark.parametrize("order_by", ["", "header:key"], ids=["unordered", "ordered"])


@ORDERS
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_suspect_has_no_other_at_its_side(
    monkeypatch: pytest.MonkeyPatch, order_by: str, place: int
) -> None:
    keyed_by_body(monkeypatch)
    bodies = [b"one", b"two"]
    bodies.insert(place, KILLER)
    next_one = Successor(route(order_by=order_by, concurrency=3), Deaths(1, 1), ["a", "b", "c"])
    next_one.deliver(*bodies)
    ((number, positions),) = next_one.bulks()
    assert positions == [place + 1]
    next_one.handle("a", number, place + 1)
    assert sorted(p for _, many in next_one.bulks() for p in many) == sorted(
        {1, 2, 3} - {place + 1}
    )


@ORDERS
@pytest.mark.parametrize("policy", [DEAD_LETTER, REQUEUE, RETRY], ids=["dead", "requeue", "retry"])
def test_what_is_convicted_has_its_outcome_whatever_that_is(
    monkeypatch: pytest.MonkeyPatch, order_by: str, policy: Policy
) -> None:
    keyed_by_body(monkeypatch)
    plan = route(order_by=order_by, on_crash=policy)
    next_one = Successor(plan, Deaths(3, 3), ["a"])
    next_one.deliver(KILLER, b"one")
    answers = next_one.take(Settlement)
    said = [single for answer in answers for single in answer.singles]
    (report,) = [report for answer in answers for report in answer.reports]
    assert report.error.startswith("actors.errors.HandlerCrashed: in hand when 3 workers were")
    if order_by and policy is not DEAD_LETTER:
        assert said == [], "it waits at the head of its key's line"
    else:
        assert [(one.position, one.outcome) for one in said] == [(1, policy.outcome)]
        return
    handed = next_one.bulks()
    for number, (position,) in handed:
        next_one.handle("a", number, position)
    next_one.batcher.on(Neighbours("connection", "batcher", (("a", "r"),), 2), "pipeline", 100.0)
    handed += next_one.bulks()
    assert sorted(positions for _, positions in handed) == [[1], [2]]


def keyed_by_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message has a key of its own."""
    monkeypatch.setattr(
        "actors.roles.handler_pools.order_key", lambda kind, raw, order_by: raw.hex()
    )
