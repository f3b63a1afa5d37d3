"""Back-pressure and the end: prefetch, bytes, bursts, and drains that leave nothing behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import App, Events, HandlerActor, Message, Options
from actors.plan.settings import Settings
from actors.roles.protocol import ActorMessage, Drain, Drained
from actors.testing import InMemorySystem
from tests.support.flow import ACK, KINDS, REQUEUE, app_on

pytestmark = pytest.mark.parametrize("kind", KINDS)


Bulks = list[list[Any]]


def recorder(app: App, bulks: Bulks, takes: float = 0.0, **options: Any) -> None:
    @app.route(["q"], options=options)
    async def handle(messages: list[Message[Any]]) -> None:
        bulks.append([message.body for message in messages])
        await asyncio.sleep(takes)


def drained(system: InMemorySystem, seconds: float) -> list[int]:
    """Begin a drain, and say what was left once it is over."""
    system.stage.post("launcher", "root#1", Drain(seconds))
    system.advance(seconds + 1.0)
    return [message.left for message in system.stage.outbox if isinstance(message, Drained)]


def test_a_bulk_is_flushed_where_the_prefetch_is_spent(kind: str) -> None:
    """Two queues share the bulk; each has spent its prefetch, and nothing more can come."""
    app = app_on(kind, prefetch=4)
    bulks: list[int] = []

    @app.route(["a", "b"], options={Options.BULK_SIZE: 4})
    async def handle(messages: list[Message[int]]) -> None:
        bulks.append(len(messages))
        messages[0].reject(delay=30.0)

    with InMemorySystem(app) as system:
        system.deliver("a", range(4))
        system.deliver("a", range(3))
        assert bulks == [4, 3]  # one of the first is held: only three more may come


def test_a_bulk_is_full_by_bytes_too(kind: str) -> None:
    app, bulks = app_on(kind), Bulks()
    recorder(app, bulks, bulk_size=100, bulk_bytes=3000)
    with InMemorySystem(app) as system:
        system.deliver("q", ["x" * 1000] * 6)
        system.deliver("q", ["y" * 10000])
        assert [len(bulk) for bulk in bulks[:3]] == [2, 2, 2]
        system.advance(60.0)
        assert bulks[-1] == ["y" * 10000]


def test_max_bytes_pauses_and_resumes(kind: str) -> None:
    app, bulks = app_on(kind, prefetch=10), Bulks()
    recorder(app, bulks, takes=1.0, in_flight=1)
    with InMemorySystem(app, settings=Settings(max_bytes=3000)) as system:
        sent = system.deliver("q", ["x" * 1000] * 20)
        sent += system.deliver("q", ["x" * 1000] * 20)
        most = 0
        for _ in range(60):
            system.advance(1.0)
            most = max(most, system.status()["totals"]["in_flight"])
        assert most <= 10
        assert [one.actions for one in sent] == [[ACK]] * 40


def test_unsettled_messages_never_exceed_the_prefetch(kind: str) -> None:
    app, bulks = app_on(kind, prefetch=7), Bulks()
    recorder(app, bulks, takes=1.0, bulk_size=2)
    with InMemorySystem(app) as system:
        system.deliver("q", range(50))
        for _ in range(40):
            assert system.status()["totals"]["in_flight"] <= 7
            system.advance(1.0)
        assert sum(map(len, bulks)) == 50


def test_a_burst_ends_when_all_is_done(kind: str) -> None:
    app, bulks = app_on(kind), Bulks()
    recorder(app, bulks, takes=5.0, bulk_size=4)
    with InMemorySystem(app, settings=Settings(burst=True)) as system:
        sent = system.deliver("q", range(10))
        system.advance(4.0)
        assert not any(isinstance(message, Drained) for message in system.stage.outbox)
        system.advance(30.0)
        assert [m.left for m in system.stage.outbox if isinstance(m, Drained)][:1] == [0]
        assert all(one.actions == [ACK] for one in sent)


def test_a_drain_finishes_what_is_in_hand_and_flushes_what_is_open(kind: str) -> None:
    app, bulks = app_on(kind), Bulks()
    recorder(app, bulks, takes=3.0, bulk_size=4)
    with InMemorySystem(app) as system:
        sent = system.deliver("q", range(6))
        assert drained(system, 20.0)[:1] == [0]
        assert bulks == [[0, 1, 2, 3], [4, 5]]
        assert all(one.actions == [ACK] for one in sent)


def test_held_requeues_return_at_a_drain(kind: str) -> None:
    app = app_on(kind)

    @app.route(["q"], options={Events.ON_EXCEPTION: REQUEUE})
    async def handle(messages: list[Message[int]]) -> None:
        raise RuntimeError("always")

    with InMemorySystem(app, raise_errors=False) as system:
        system.deliver("q", [1, 2])
        system.advance(20.0)
        assert drained(system, 20.0)[:1] == [0]
        assert len(system.world.queues["q"]) == 2


def test_what_a_drain_cannot_finish_is_left_and_returned(kind: str) -> None:
    app, bulks = app_on(kind), Bulks()
    recorder(app, bulks, takes=1e9)
    with InMemorySystem(app) as system:
        sent = system.deliver("q", [1])
        (left, *_) = drained(system, 10.0)
        assert left > 0
        assert ACK not in sent[0].actions
        assert len(system.world.queues["q"]) == 1


def test_a_drain_without_a_connection_ends_too(kind: str) -> None:
    app, bulks = app_on(kind), Bulks()
    recorder(app, bulks)
    with InMemorySystem(app) as system:
        system.world.reachable = False
        system.disconnect()
        assert drained(system, 10.0)[:1] == [0]


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("ends", [True, False])
def test_a_drain_counts_each_delivery_that_it_leaves_once(
    kind: str, count: int, ends: bool
) -> None:
    """A handler that does not end adds nothing: what it holds the connection has counted."""
    app = app_on(kind)

    @app.route(["q"], options={Options.BULK_SIZE: 2})
    class Busy(HandlerActor):
        async def handle(self, messages: list[Message[int]]) -> None:
            await asyncio.sleep(1e9)

        async def on_stop(self) -> None:
            await asyncio.sleep(0.0 if ends else 1e9)

    with InMemorySystem(app) as system:
        system.deliver("q", range(count))
        system.advance(2.0)
        assert drained(system, 8.0)[:1] == [count]
        assert len(system.world.queues["q"]) == count


@pytest.mark.parametrize("during", [True, False])
def test_a_connection_that_is_lost_in_a_drain_leaves_what_was_in_hand(
    kind: str, during: bool
) -> None:
    """What went back before the drain began is nothing that the drain leaves."""
    app = app_on(kind)
    recorder(app, Bulks(), takes=1e9)
    with InMemorySystem(app) as system:
        system.deliver("q", range(3))
        system.advance(2.0)
        if not during:
            system.world.reachable = False
            system.disconnect()
        system.stage.post("launcher", "root#1", Drain(8.0))
        system.advance(1.0)
        system.disconnect()
        system.advance(8.0)
        left = [message.left for message in system.stage.outbox if isinstance(message, Drained)]
        assert left[:1] == [3 * during]


def test_a_word_of_the_end_that_comes_twice_counts_once(kind: str) -> None:
    app = app_on(kind)
    recorder(app, Bulks(), takes=1e9)
    with InMemorySystem(app) as system:
        system.deliver("q", range(3))
        (connection,) = system.stage.named("connection")
        post = system.stage.post

        def twice(sender: str, to: str, message: ActorMessage) -> None:
            for _ in range(1 + (isinstance(message, Drained) and sender == connection)):
                post(sender, to, message)

        system.stage.post = twice  # type: ignore[method-assign]
        assert drained(system, 8.0)[:1] == [3]


def test_copies_that_are_still_under_way_at_the_end_are_left(kind: str) -> None:
    app = app_on(kind)

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        for message in messages:
            message.dead_letter("no good")

    with InMemorySystem(app) as system:
        (connection,) = system.stage.named("connection")
        client: Any = system.stage.contexts[connection].world
        client.republish = lambda request: None  # never confirmed
        system.deliver("q", range(3))
        assert drained(system, 8.0)[:1] == [3]
