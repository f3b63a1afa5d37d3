"""The plan of an app and its settings: plain data that travels in `Configure`.

`App` declares, `actors.plan.settings` resolves flags, environment, file and code into a
`Plan`; actors read nothing else. Everything here is frozen and picklable.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.logic.settlement.failure import DEAD_LETTER, REQUEUE, Policy
from actors.logic.supervision.placement import Offer

#: Where handlers may put messages: (name, kind, settings as JSON) of each connection.
Outlets = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """One route as the actors see it: numbers, and the table for what befalls a
    message outside its handler. The handler itself is found in the app by `name`."""

    name: str
    queues: tuple[str, ...]
    bulk_size: int = 1  #: deliveries; already `min(BULK_SIZE, prefetch)`
    bulk_flush_interval: float = 60.0  #: seconds from the oldest delivery
    bulk_bytes: int = 16 * 1024 * 1024
    pool: str = ""  #: routes of one pool share handler processes; empty: its own
    concurrency: int = 1  #: handler processes, of its whole pool
    in_flight: int = 1  #: bulks at once in a process
    serial: bool = False  #: `def`, one bulk at a time: takes turns with the like of its pool
    prefetch: int = 128  #: unsettled deliveries, for each queue
    timeout: float = 1500.0  #: seconds for one bulk, then its process is killed
    max_crashes: int = 3
    max_messages: int = 0  #: after which a process is replaced; 0: never
    max_memory: int = 0  #: bytes of a process at which it is replaced; 0: never
    delivery_limit: int | None = None  #: of its queues, by a policy
    order_by: str = ""  #: "", "routing_key" or "header:NAME"
    last_alone: int = 0  #: the hand-out (counted from 1) that is always made alone; 0: none
    first_retry: float | None = None  #: seconds of the shortest wait of a `Retry`; None: none waits
    requires: tuple[Offer, ...] = ()  #: of the hosts that its handlers may run on
    on_timeout: Policy = REQUEUE
    on_crash: Policy = DEAD_LETTER
    tasks: tuple[str, ...] = ()  #: its messages are jobs of these; empty: they are no jobs
    priorities: int = 0  #: of jobs: the highest that their queue takes; 0: they have none
    at_most_once: bool = False  #: of jobs: what was begun never runs again
    grace: float = 0.0  #: seconds for which a job that is to end may go on

    @property
    def row(self) -> str:
        """Where its bulks queue up in a handler process: alone, or with others in turn."""
        return "" if self.serial else self.name


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """One connection with all it serves: what a pipeline supervisor is to play."""

    name: str  #: as the connection is named; with the vhost where there are several
    kind: str  #: of its connector
    settings: str = field(repr=False)  #: the connection's settings as JSON, secrets included
    routes: tuple[RoutePlan, ...] = ()
    app: str = ""  #: import string
    burst: bool = False
    wait: bool = True  #: wait for a peer that cannot be reached at first
    max_bytes: int = 0  #: over all unsettled deliveries of the pipeline; 0: no limit
    state_dir: str = ""
    topology: tuple[tuple[str, str], ...] = ()  #: (queue, what to declare for it, as JSON)
    outlets: Outlets = field(default=(), repr=False)
    host: str = ""  #: the name of this host
    offers: tuple[Offer, ...] = ()  #: of this host
    spread: bool = False  #: handlers also run on the hosts that join

    @property
    def retries(self) -> dict[str, float]:
        """Seconds after which a message first comes back, of each queue that has retries."""
        first = {queue: route.first_retry for route in self.routes for queue in route.queues}
        return {queue: delay for queue, delay in first.items() if delay is not None}

    @property
    def pools(self) -> dict[str, tuple[RoutePlan, ...]]:
        """The routes of each pool; a route that names none has one to itself, of its name."""
        pools: dict[str, tuple[RoutePlan, ...]] = {}
        for route in self.routes:
            pool = route.pool or route.name
            pools[pool] = (*pools.get(pool, ()), route)
        return pools


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole system: what the root supervisor is to play."""

    app: str  #: import string, "handlers.words:app"
    name: str
    pipelines: tuple[PipelinePlan, ...]
    clock: bool = False  #: the app has timers or callbacks
    singleton: str = ""  #: what replicas have in common: the app's name, whatever theirs
    state_dir: str = ""
    outlets: Outlets = field(default=(), repr=False)
    version: str = ""
    host: str = ""  #: the name of this host
    shutdown_timeout: float = 25.0  #: seconds for the whole drain
    since: str = ""  #: when it was started, ISO 8601
    log_level: str = "INFO"
    log_format: str = "text"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A host that joins a system: what its host supervisor is to play."""

    app: str  #: import string; the leader runs the same
    name: str
    host: str
    offers: tuple[Offer, ...] = ()
    version: str = ""
    shutdown_timeout: float = 25.0  #: seconds for the whole drain
    since: str = ""  #: when it was started, ISO 8601
    log_level: str = "INFO"
    log_format: str = "text"
