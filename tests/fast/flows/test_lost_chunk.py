"""A chunk that got lost stops neither a drain nor what comes after it."""

from __future__ import annotations

from array import array
from random import Random
from typing import Any

from actors.connectors.journal import NoJournal
from actors.plan.plan import PipelinePlan, RoutePlan
from actors.roles.batcher import Batcher
from actors.roles.port import Fetched
from actors.roles.protocol import (
    Bulk,
    Configure,
    Deliveries,
    Drain,
    Drained,
    Neighbours,
    Outstanding,
)
from actors.roles.settler import Settler


class Context:
    """An actor's context that keeps what is sent."""

    def __init__(self, name: str) -> None:
        self.name, self.pid, self.host = name, 1, "here"
        self.random = Random(0)
        self.sent: list[Any] = []

    def send(self, to: str, message: Any) -> None:
        self.sent.append(message)

    def remind(self, seconds: float, reminder: Any) -> None:
        pass

    def client(self, kind: str, settings: Any) -> NoJournal:
        return NoJournal()

    def take(self, kind: type[Any]) -> list[Any]:
        taken = [message for message in self.sent if isinstance(message, kind)]
        self.sent = [message for message in self.sent if not isinstance(message, kind)]
        return taken


class Pair:
    """The traffic of a connection, and its batcher."""

    def __init__(self) -> None:
        self.connection, self.batcher_context = Context("connection"), Context("batcher")
        here: Any = self.connection
        there: Any = self.batcher_context
        client: Any = self
        self.settler = Settler("amqp", here, client)
        self.settler.meet("batcher")
        self.batcher = Batcher(there)
        route = RoutePlan("r", ("q",))
        self.batcher.on(
            Configure(PipelinePlan("amqp", "amqp", "{}", (route,)), "batcher"), "pipeline", 0.0
        )
        introduction = Neighbours("connection", "batcher", (("h", "r"),), 1)
        self.batcher.on(introduction, "pipeline", 0.0)

    def settle(self, queue: str, epoch: int, flush: Any) -> None:
        """As the client of the connection: nothing is settled here."""

    def fetch(self, epoch: int, first: int = 1) -> Deliveries:
        fetched = Fetched("q", epoch, first, b".", array("I", [1]).tobytes())
        self.settler.fetched(fetched, 0.0)
        (deliveries,) = self.connection.take(Deliveries)
        assert isinstance(deliveries, Deliveries)
        return deliveries

    def round(self, now: float) -> None:
        self.settler.ask_what_is_held(now)
        for held in self.connection.take(Outstanding):
            self.batcher.on(held, "connection", now)
        for held in self.batcher_context.take(Outstanding):
            self.settler.held(held, now)


def test_a_drain_ends_though_the_last_chunk_got_lost_and_its_epoch_ended() -> None:
    pair = Pair()
    pair.settler.unacked.begin(1, "q", "r", 10)
    lost = pair.fetch(1)
    pair.settler.end(1)
    pair.settler.draining = True
    pair.batcher.on(Drain(0.0, lost.number), "connection", 1.0)
    assert pair.batcher_context.take(Drained) == []
    pair.round(2.0)
    assert len(pair.batcher_context.take(Drained)) == 1
    pair.batcher.on(lost, "connection", 3.0)
    assert pair.batcher_context.take(Bulk) == []


def test_a_chunk_behind_a_lost_one_waits_until_that_is_given_up() -> None:
    pair = Pair()
    pair.settler.unacked.begin(1, "q", "r", 10)
    lost, behind = pair.fetch(1), pair.fetch(1, 2)
    pair.batcher.on(behind, "connection", 0.0)
    assert pair.batcher_context.take(Bulk) == []
    for now in (3.0, 5.0, 7.0):
        pair.round(now)
    assert [bulk.pieces[0].first for bulk in pair.batcher_context.take(Bulk)] == [2]
    assert pair.settler.unacked.sent_chunks.open() == [behind.number]
    pair.batcher.on(lost, "connection", 8.0)
    assert pair.batcher_context.take(Bulk) == []
