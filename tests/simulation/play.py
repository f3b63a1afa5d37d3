"""One run of a whole system under faults, and what must hold in it whatever happens.

I1  the world ends a message only as a handler or a policy decided
I2  a delivery is settled once, on the channel that it came from (the world itself objects)
I3  a handler sees a message again only where it says so
I4  no more is unsettled than the prefetch allows (`faults.FaultyClient`)
I5  one live actor in each slot (`faults.FaultyStage`)
I6  once the faults are over, everything drains
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from actors import Actions, AMQPConnection, App, Events, Message, Options, Retry, SpoolConnection
from actors.clients.verdicts import shares
from actors.errors import HandlerCrashed
from actors.kinds import KINDS
from actors.message import Handout
from actors.protocol import Bulk, Failed
from actors.stages.memory import ClientFactory
from actors.stages.observed import ObservedCode
from actors.testing import InMemorySystem, Sent, crash
from tests.simulation.faults import Faults, FaultyStage, FaultyWorld

#: Virtual seconds in which all must be done once the faults are over.
BOUND = 3600.0

#: … and in which all is as it was then.
REST = 70.0

ENDS = {Actions.ACK, Actions.REJECT, Actions.DEAD_LETTER}
ACTS = ("raise", "requeue", "later", "snooze", "retry", "crash", "hang", "slow", "reject", "dead")


class Story:
    """What a handler is to do with one message, and what it has done."""

    def __init__(self, key: int, acts: list[str]) -> None:
        self.key = key
        self.acts = acts
        self.seen = 0
        self.last = ""
        self.decided: set[Actions] = set()

    def next(self) -> str:
        self.seen += 1
        self.last = self.acts.pop(0) if self.acts else "ack"
        return self.last


class Play:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.faults = Faults.drawn(self.random)
        self.broken: list[str] = []
        self.stories: dict[int, Story] = {}
        self.sent: dict[int, Sent] = {}
        self.setting = self._draw_setting()
        self.system = FaultySystem(self._app(), seed, self.faults, self.hand_out)

    def run(self) -> None:
        """Raises AssertionError where anything does not hold."""
        random, system = self.random, self.system
        with system:
            for _ in range(random.randint(3, 10)):
                self._deliver(random.randint(0, 12))
                system.world.suffer(random, self.faults)
                system.advance(random.choice((0.0, 0.5, 3.0, 10.0)))
            system.stage.rest()
            system.world.rest()
            end = system.stage.now + BOUND
            while system.stage.now < end and not self._done():
                system.advance(5.0)
            system.advance(REST)
            self._check()

    # ── the scene ─────────────────────────────────────────────────────────────

    def _draw_setting(self) -> dict[str, Any]:
        random = self.random
        retry = Retry(attempts=random.choice((2, 3, 5)), first=0.5, cap=4.0)
        table = {
            Exception: random.choice((Actions.REQUEUE, retry)),
            HandlerCrashed: Actions.DEAD_LETTER,
        }
        return {
            "broker": random.random() < 0.5,
            "prefetch": random.choice((1, 3, 10, 40)),
            "options": {
                Options.BULK_SIZE: random.choice((1, 2, 5, 20)),
                Options.BULK_FLUSH_INTERVAL: random.choice((0.5, 5.0)),
                Options.CONCURRENCY: random.choice((1, 1, 2, 3)),
                Options.IN_FLIGHT: random.choice((1, 1, 2, 5)),
                Options.TIMEOUT: 60.0,
                Options.MAX_CRASHES: random.choice((1, 2, 3)),
                Options.ORDER_BY: random.choice(("", "", "header:key")),
                Options.POOL: random.choice(("", "shared")),
                Events.ON_EXCEPTION: table,
            },
            "acts": [act for act in ACTS if random.random() < 0.4],
            "rate": random.choice((0.0, 0.1, 0.5)),
        }

    def _app(self) -> App:
        prefetch = self.setting["prefetch"]
        if self.setting["broker"]:
            app = App(connections=[AMQPConnection(host="memory", prefetch_count=prefetch)])
        else:
            app = App(connections=[SpoolConnection(prefetch_count=prefetch)])
        for route in ("a", "b"):
            app.route([route], options=self.setting["options"])(self._handle)
        return app

    def _deliver(self, count: int) -> None:
        for _ in range(count):
            number = len(self.stories) + 1
            key = self.random.randint(1, 3)
            acts = [
                self.random.choice(self.setting["acts"])
                for _ in range(3)
                if self.setting["acts"] and self.random.random() < self.setting["rate"]
            ]
            self.stories[number] = Story(key, acts)
            (self.sent[number],) = self.system.deliver(
                self.random.choice("ab"), [number], headers={"key": str(key)}
            )

    async def _handle(self, messages: list[Message[int]]) -> None:
        acts = [(message, *self._begin(message)) for message in messages]
        failing = False
        for message, story, act in acts:
            match act:
                case "requeue":
                    message.reject()
                case "later":
                    message.reject(delay=2.0)
                case "snooze":
                    message.snooze(self.random.choice((1.0, 70.0)))
                case "reject":
                    story.decided.add(Actions.REJECT)
                    message.reject(requeue=False)
                case "dead":
                    story.decided.add(Actions.DEAD_LETTER)
                    message.dead_letter("as told")
                case "crash":
                    story.decided.add(Actions.DEAD_LETTER)
                    crash()
                case "hang":
                    story.decided.add(Actions.DEAD_LETTER)
                    await asyncio.sleep(1e9)
                case "slow":
                    await asyncio.sleep(self.random.random() * 10)
                    message.accept()
                    story.decided.add(Actions.ACK)
                case "raise":
                    failing = True
        await asyncio.sleep(self.random.choice((0.0, 0.0, 0.1)))
        for _, story, _ in acts:
            story.decided.add(Actions.DEAD_LETTER if failing else Actions.ACK)
        if failing:
            raise RuntimeError("as told")

    def _begin(self, message: Message[int]) -> tuple[Story, str]:
        story = self.stories[message.body]
        return story, story.next()

    def hand_out(self, message: Message[int]) -> None:
        """A handler is given a message, on the channel that the world still knows."""
        story = self.stories[message.body]
        flagged = message.redelivered and message.attempts > 0
        if story.seen and not flagged and story.last != "snooze":
            self.broken.append(f"I3: {message.body} came again as if it were new")

    # ── what must hold ────────────────────────────────────────────────────────

    def _done(self) -> bool:
        return all(ENDS & set(sent.actions) for sent in self.sent.values())

    def _check(self) -> None:
        broken = self.broken
        for message in self.system.stage.outbox:
            if isinstance(message, Failed):
                broken.append(f"the system gave up: {message.reason}")
        for number, sent in self.sent.items():
            ends = [action for action in sent.actions if action in ENDS]
            if len(ends) != 1:
                broken.append(f"I6: {number} was ended {len(ends)} times: {sent.actions}")
            elif self.faults.kill and sent.reason.startswith("alone in a process that died"):
                pass
            elif ends[0] not in self.stories[number].decided:
                broken.append(f"I1: {number} got {ends[0]}, which nobody decided")
        assert not broken, "\n".join(broken)
        status = self.system.status()
        assert status["ready"], status
        assert status["totals"]["in_flight"] == 0, status

    def __str__(self) -> str:
        return f"seed {self.seed}: faults {self.faults}; {self.setting}"


class FaultySystem(InMemorySystem):
    """The kit on a faulty stage, in a faulty world."""

    stage: FaultyStage
    world: FaultyWorld

    def __init__(
        self, app: App, seed: int, faults: Faults, watch: Callable[[Message[int]], None]
    ) -> None:
        super().__init__(app, state={}, raise_errors=False, seed=seed)
        self.world_class = FaultyWorld
        self.stage_class = self._build_stage
        self._faults = faults
        self.code_class = partial(WatchedCode, watch=watch)

    def _build_stage(self, clients: Mapping[str, ClientFactory], seed: int) -> FaultyStage:
        self.world.stage = FaultyStage(clients, seed, self._faults)
        return self.world.stage


class WatchedCode(ObservedCode):
    """User code whose bulks are looked at before it sees them."""

    def __init__(self, *args: Any, watch: Callable[[Message[int]], None]) -> None:
        super().__init__(*args)
        self._watch = watch

    def submit(self, bulk: Bulk) -> None:
        for share in shares(bulk):
            messages = share.messages(KINDS[self._unit.kind], Handout(bulk.route, json.loads))
            for (epoch, _), message in zip(share.receipts(), messages, strict=True):
                # What is late, on a channel that has ended, may overtake what came instead.
                client = self._world.clients.get(self._unit.name)
                if client is not None and epoch in client.channels:
                    self._watch(message)
        super().submit(bulk)
