"""The same flows of the same actors, in memory and on Thespian's own simpleSystemBase."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from actors import Actions, App, Options
from actors.api.connections import parse_connection
from actors.connectors.journal import NoJournal
from actors.connectors.memory.wire import Stored
from actors.connectors.memory.world import World
from actors.plan.build import build_plan
from actors.plan.plan import PipelinePlan, Plan
from actors.roles.protocol import ActorMessage, Configure, Drain, Drained
from actors.stages.memory import ClientFactory, MemoryStage
from actors.stages.thespian.launcher import InProcess
from actors.stages.thespian.roles import CLIENTS
from actors.usercode.runner import InlineUserCode

SECONDS = 20.0  #: virtual or real, for a flow


class Theatre(Protocol):
    """A stage with a world of its own, and whoever started it."""

    world: World

    def until(self, holds: Callable[[], object]) -> None: ...

    def drain(self) -> Drained: ...


class Memory:
    """In virtual time."""

    def __init__(self, app: App, plan: Plan) -> None:
        self.world = World(lambda: self._stage.now)
        runner = _runner(app, lambda: self._stage.now)
        clients: dict[str, ClientFactory] = {"runner": runner, "journal": NoJournal}
        self._stage = MemoryStage({plan.pipelines[0].kind: self.world.client, **clients})
        self._stage.create("root#1", "root")
        self._stage.post("launcher", "root#1", Configure(plan, "root"))

    def until(self, holds: Callable[[], object]) -> None:
        deadline = self._stage.now + SECONDS
        while not holds():
            assert self._stage.now < deadline, "the flow stands still"
            self._stage.advance(0.05)

    def drain(self) -> Drained:
        self._stage.post("launcher", "root#1", Drain(10.0))
        self.until(lambda: _drained(self._stage.outbox))
        return _drained(self._stage.outbox)[0]


class Simple:
    """On Thespian, in this thread and in real time."""

    def __init__(self, app: App, plan: Plan) -> None:
        global _app, _world
        self.world = _world = World(time.monotonic)
        _app = app
        self._heard: list[ActorMessage] = []
        self._launcher = InProcess(plan)

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < deadline, "the flow stands still"
            if message := self._launcher.receive(0.01):
                self._heard.append(message)

    def drain(self) -> Drained:
        self._launcher.send(Drain(10.0))
        self.until(lambda: _drained(self._heard))
        return _drained(self._heard)[0]

    def close(self) -> None:
        self._launcher.shutdown(0.0)


_app: App
_world: World
_codes: list[InlineUserCode] = []


def world_client(plan: PipelinePlan) -> Any:
    """What the host finds under the kind of a connection."""
    return _world.client(plan)


def inline_code(settings: tuple[PipelinePlan, str]) -> Any:
    """What the host finds under "runner"."""
    return _runner(_app, time.monotonic)(settings)


def _runner(app: App, clock: Callable[[], float]) -> Callable[[tuple[PipelinePlan, str]], Any]:
    def make(settings: tuple[PipelinePlan, str]) -> InlineUserCode:
        pipeline, pool = settings
        _codes.append(InlineUserCode(app, pipeline.pools[pool], pipeline.kind, clock))
        return _codes[-1]

    return make


def _drained(messages: list[ActorMessage]) -> list[Drained]:
    return [message for message in messages if isinstance(message, Drained)]


Stage = Callable[[App], Theatre]


@pytest.fixture(params=["memory", "simpleSystemBase"])
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for kind in ("amqp", "spool"):
        monkeypatch.setitem(CLIENTS, kind, f"{__name__}:world_client")
    monkeypatch.setitem(CLIENTS, "runner", f"{__name__}:inline_code")
    monkeypatch.setitem(CLIENTS, "journal", f"{NoJournal.__module__}:{NoJournal.__qualname__}")
    opened: list[Simple] = []

    def make(app: App) -> Theatre:
        if request.param == "memory":
            return Memory(app, build_plan(app))
        opened.append(Simple(app, build_plan(app)))
        return opened[-1]

    yield make
    for simple in opened:
        simple.close()  # which tells no actor
    while _codes:
        _codes.pop().close()


def put(world: World, count: int, queue: str = "work") -> list[Stored]:
    messages = [Stored(b"%d" % number, str(number)) for number in range(count)]
    for message in messages:
        world.put(queue, message)
    return messages


@pytest.mark.parametrize("connection", ["spool:", "amqp://me:x@mq/"])
def test_bulks_are_handled_in_order_and_the_open_one_at_the_drain(
    connection: str, stage: Stage
) -> None:
    app = App(connections=[parse_connection(connection)])
    bulks: list[list[int]] = []

    @app.route(["work"], options={Options.BULK_SIZE: 4})
    def handle(messages: list[Any]) -> None:
        bulks.append([message.body for message in messages])

    theatre = stage(app)
    messages = put(theatre.world, 10)
    theatre.until(lambda: len(bulks) == 2)
    assert theatre.drain().left == 0
    assert bulks == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(message.actions == [Actions.ACK] for message in messages)


def test_marks_and_exceptions_settle_each_message_by_itself(stage: Stage) -> None:
    app = App(host="mq", user="me", password="x")

    @app.route(["work"], options={Options.BULK_SIZE: 4})
    def handle(messages: list[Any]) -> None:
        for message in messages:
            if message.body == 1:
                message.reject(requeue=False)
            if message.body == 2:
                message.dead_letter("no good")
            if message.body == 3 and not message.attempts:
                message.accept()
                raise ValueError("after a mark")

    theatre = stage(app)
    messages = put(theatre.world, 4)
    theatre.until(lambda: all(m.actions and m.actions[-1] != Actions.REQUEUE for m in messages))
    zero, one, two, three = (message.actions for message in messages)
    assert (one, two, three) == ([Actions.REJECT], [Actions.DEAD_LETTER], [Actions.ACK])
    assert zero[0] == Actions.REQUEUE
    assert messages[2].reason == "no good"


def test_what_a_cut_connection_had_in_hand_comes_again_and_says_so(stage: Stage) -> None:
    app = App(host="mq", user="me", password="x")
    seen: list[tuple[int, bool]] = []

    @app.route(["work"], options={Options.BULK_SIZE: 8, Options.BULK_FLUSH_INTERVAL: 0.3})
    def handle(messages: list[Any]) -> None:
        seen.extend((message.body, message.redelivered) for message in messages)

    theatre = stage(app)
    messages = put(theatre.world, 3)
    theatre.until(lambda: any(c.channels for c in theatre.world.clients.values()))
    theatre.until(lambda: not theatre.world.queues["work"])
    theatre.world.disconnect()
    theatre.until(lambda: all(message.actions == [Actions.ACK] for message in messages))
    assert {body for body, redelivered in seen if redelivered} == {0, 1, 2}
    assert theatre.drain().left == 0


def test_routes_of_one_pool_share_a_handler(stage: Stage) -> None:
    app = App(connections=[parse_connection("spool:")])
    handled: list[str] = []

    def handle(messages: list[Any]) -> None:
        handled.extend(message.route for message in messages)

    async def handle_async(messages: list[Any]) -> None:
        handle(messages)

    queues = [f"work-{number}" for number in range(10)]
    for number, queue in enumerate(queues):
        app.route([queue], options={Options.POOL: "small"})(handle_async if number % 2 else handle)
    theatre = stage(app)
    messages = [message for queue in queues for message in put(theatre.world, 5, queue)]
    theatre.until(lambda: all(message.actions == [Actions.ACK] for message in messages))
    assert sorted(handled) == sorted(queue for queue in queues for _ in range(5))
    assert len(_codes) == 1
    assert theatre.drain().left == 0
