"""A world that takes back all that its channel holds, where one delivery is unsettled too long."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from actors import AMQPConnection, App, Message, Options
from actors.connectors.memory.world import World, WorldClient
from actors.plan.plan import PipelinePlan
from actors.testing import InMemorySystem

PATIENCE = 100.0


class ImpatientClient(WorldClient):
    """A broker's consumer timeout, in virtual time."""

    def __init__(self, world: ImpatientWorld, plan: PipelinePlan) -> None:
        super().__init__(world, plan)
        self._lost = world.lost
        self._clock = world.clock
        self._came: dict[tuple[int, int], float] = {}

    def patience(self, queue: str) -> float:
        return PATIENCE

    def widen(self, queue: str, epoch: int, window: int) -> None:
        self.channels[epoch].window = window

    def turn(self, now: float) -> list[Any]:
        events = super().turn(now)
        for epoch, channel in list(self.channels.items()):
            held = [*channel.unsettled, *channel.republishing]
            came = [self._came.setdefault((epoch, position), now) for position in held]
            if came and now - min(came) > PATIENCE:
                self._lost.append(channel.queue)
                self.lose_queue(channel.queue, "a delivery was unsettled for too long", "timeout")
        return events


class ImpatientWorld(World):
    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.lost: list[str] = []  #: queues whose channel it has ended

    def client(self, plan: PipelinePlan) -> ImpatientClient:
        client = ImpatientClient(self, plan)
        self.clients[plan.name] = client
        return client


class Impatient(InMemorySystem):
    world_class = ImpatientWorld
    world: ImpatientWorld


@pytest.fixture
def app() -> App:
    return App(connections=[AMQPConnection(host="memory")])


def working(app: App, seconds: Callable[[int], float], **options: Any) -> Counter[int]:
    """A handler that takes so long for each bulk, by its first number; how often it had each."""
    times: Counter[int] = Counter()

    @app.route(["q"], options=options)
    async def handle(messages: list[Message[int]]) -> None:
        times.update(message.body for message in messages)
        await asyncio.sleep(seconds(messages[0].body))

    return times


@pytest.mark.parametrize("seconds", [1.0, 30.0, 49.0, 60.0, 74.0])
@pytest.mark.parametrize("options", [{}, {"bulk_size": 4}, {"concurrency": 3}, {"in_flight": 5}])
def test_a_slow_handler_meets_no_consumer_timeout(
    app: App, seconds: float, options: dict[str, int]
) -> None:
    times = working(app, lambda _: seconds, **{"in_flight": 1, **options})
    with Impatient(app) as system:
        system.deliver("q", range(40))
        system.advance(40 * seconds + 200.0)
        assert system.world.lost == []
        assert times == Counter(range(40))
        assert not system.status()["totals"]["in_flight"]


@pytest.mark.parametrize("seconds", [20.0, 49.0])
@pytest.mark.parametrize("size", [1, 10])
def test_a_handler_that_turns_slow_gives_back_what_it_has_not_begun(
    app: App, seconds: float, size: int
) -> None:
    """Hundreds are at hand, of which each took next to nothing so far."""
    times = working(
        app, lambda number: 0.001 if number < 2000 else seconds, in_flight=1, bulk_size=size
    )
    with Impatient(app) as system:
        system.deliver("q", range(2000))
        system.advance(20.0)
        assert len(times) == 2000
        system.deliver("q", range(2000, 2100))
        system.advance(100 * seconds + 200.0)
        assert system.world.lost == []
        assert times == Counter(range(2100))


def test_what_is_given_back_counts_no_attempt(app: App) -> None:
    """A classic queue says no more than that it was delivered before: that stands for one."""
    attempts: list[int] = []

    @app.route(["q"], options={Options.IN_FLIGHT: 1})
    async def handle(messages: list[Message[int]]) -> None:
        attempts.extend(message.attempts for message in messages)
        await asyncio.sleep(70.0)

    with Impatient(app) as system:
        system.deliver("q", range(8))
        system.advance(700.0)
        assert attempts == [0] + [1] * 7


@pytest.mark.parametrize("interval", [60.0, 3600.0])
@pytest.mark.parametrize("order_by", ["", "routing_key"])
def test_a_bulk_that_does_not_fill_is_handled_in_good_time(
    app: App, interval: float, order_by: str
) -> None:
    times = working(
        app, lambda _: 0.0, bulk_size=100, bulk_flush_interval=interval, order_by=order_by
    )
    with Impatient(app) as system:
        system.deliver("q", range(7))
        system.advance(PATIENCE)
        assert times == Counter(range(7))
        assert system.world.lost == []


def test_a_requeue_is_held_no_longer_than_the_broker_waits(app: App) -> None:
    times: Counter[int] = Counter()

    @app.route(["q"])
    async def handle(messages: list[Message[int]]) -> None:
        times.update(message.body for message in messages)
        for message in messages:
            message.reject(delay=500.0)

    with Impatient(app) as system:
        system.deliver("q", range(3))
        system.advance(4 * PATIENCE)
        assert system.world.lost == []
        assert all(4 <= times[number] <= 9 for number in range(3))


def test_it_is_said_what_is_too_slow_and_what_to_do(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    working(app, lambda _: 74.0, in_flight=1)
    with Impatient(app) as system, caplog.at_level(logging.WARNING):
        system.deliver("q", range(6))
        system.advance(500.0)
        (line,) = [r.getMessage() for r in caplog.records if "unsettled" in r.getMessage()]
        assert "route q is" in line
        assert "100 s" in line
        assert "its handlers take 74 s a message, 1 at once" in line or "not answered" in line
        assert all(word in line for word in ("prefetch", "concurrency", "consumer_timeout"))
        caplog.clear()
        system.deliver("q", range(6))
        system.advance(700.0)
        assert any("its handlers take 74 s a message" in r.getMessage() for r in caplog.records)


def test_an_ordered_route_gives_nothing_back_before_what_came_later(app: App) -> None:
    order: list[int] = []

    @app.route(["q"], options={"order_by": "routing_key"})
    async def handle(messages: list[Message[int]]) -> None:
        order.extend(message.body for message in messages)
        await asyncio.sleep(30.0)

    with Impatient(app) as system:
        system.deliver("q", range(3))
        system.advance(60.0)
        system.deliver("q", range(3, 5))
        system.advance(200.0)
        assert order == list(range(5))
