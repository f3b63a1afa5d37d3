"""What a seed draws before anything is played: a world, a plan, and what handlers will do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from actors.errors import HandlerCrashed
from actors.logic.settlement.failure import DEAD_LETTER, REQUEUE, Outcome, Policy
from actors.plan.plan import PipelinePlan, Plan, RoutePlan

#: Each world, and the kind of connection that it is reached by.
WORLDS = {
    "classic": "amqp",
    "quorum 4.2": "amqp",
    "quorum 4.3": "amqp",
    "spool": "spool",
    "sse": "sse",
}

#: What a handler may do with a message besides acknowledging it.
ACTS = ("raise", "requeue", "later", "snooze", "crash", "hang", "slow", "reject", "dead")

#: Seconds for one bulk; a handler that is slow stays below it.
TIMEOUT = 20.0

URL = "http://memory/"

Table = Mapping[type[BaseException], Policy]


@dataclass(frozen=True, slots=True)
class Scene:
    """The setting of one play."""

    world: str
    plan: Plan
    table: Table  #: of every route
    acts: tuple[str, ...]  #: what handlers do in this play
    rate: float  #: how often they do it
    limit: int | None  #: a quorum queue's limit of deliveries
    dead_letter_exchange: bool
    rounds: int
    burst: int  #: messages in a round at the most
    drain: bool  #: under load at the end

    @property
    def pipeline(self) -> PipelinePlan:
        return self.plan.pipelines[0]

    @property
    def kind(self) -> str:
        return self.pipeline.kind

    @property
    def ordered(self) -> bool:
        return bool(self.pipeline.routes[0].order_by)

    @property
    def queues(self) -> list[str]:
        return [queue for route in self.pipeline.routes for queue in route.queues]

    def __str__(self) -> str:
        route = self.pipeline.routes[0]
        names = (
            "bulk_size", "bulk_flush_interval", "pool", "concurrency", "in_flight", "serial",
            "prefetch", "max_crashes", "max_messages", "order_by", "on_timeout", "last_alone",
        )  # fmt: skip
        options = ", ".join(f"{name} {getattr(route, name)}" for name in names)
        return (
            f"{self.world}, limit {self.limit}, queues {self.queues}; {options};"
            f" handlers {self.acts} at {self.rate}; drain {self.drain}"
        )


def draw(random: Random) -> Scene:
    """The scene of a seed."""
    world = random.choice(list(WORLDS))
    attempts = random.choice((0, 2, 3, 5))
    failed = Policy(Outcome.RETRY, attempts, 0.5, 2.0, 4.0) if attempts else REQUEUE
    table: Table = {
        Exception: failed,
        HandlerCrashed: DEAD_LETTER,
        TimeoutError: random.choice((failed, DEAD_LETTER)),
    }
    prefetch = random.choice((1, 3, 10, 40))
    bulk_size = min(prefetch, random.choice((1, 2, 5, 20)))
    order_by = random.choice(("", "", "header:event" if world == "sse" else "header:key"))
    route = RoutePlan(
        "a",
        ("a",),
        bulk_size,
        random.choice((0.2, 2.0)),
        pool=random.choice(("", "shared")),
        concurrency=random.choice((1, 1, 2, 3)),
        in_flight=(in_flight := random.choice((1, 1, 2, 5))),
        serial=in_flight == 1 and random.random() < 0.5,
        prefetch=prefetch,
        timeout=TIMEOUT,
        max_crashes=random.choice((1, 2, 3)),
        max_messages=random.choice((0, 0, 5)),
        order_by=order_by,
        last_alone=attempts,
        on_timeout=table[TimeoutError],
        on_crash=DEAD_LETTER,
    )
    routes = [route]
    if random.random() < 0.3:
        routes.append(replace(route, name="b", queues=("b", "c"), bulk_size=1))
    kind = WORLDS[world]
    settings = json.dumps({"url": URL} if kind == "sse" else {"path": "memory"})
    pipeline = PipelinePlan(kind, kind, settings, tuple(routes), state_dir="/nowhere")
    return Scene(
        world,
        Plan("", "play", (pipeline,), shutdown_timeout=600.0),
        table,
        tuple(act for act in ACTS if random.random() < 0.4),
        random.choice((0.0, 0.1, 0.5)),
        random.choice((None, 2, 20)) if world.startswith("quorum") else None,
        random.random() < 0.5,
        rounds=random.randint(2, 5),
        burst=random.choice((3, 8, 12)),
        drain=random.random() < (0.6 if order_by else 0.3),  # lines that wait are given back
    )
