"""The handler pools and route queues of a plan."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Any

from actors.api.connector import connector_of
from actors.api.message import Message
from actors.logic.bulks.batching import Batching
from actors.logic.bulks.handler_pool import HandlerPool
from actors.logic.bulks.ordering import Ordering
from actors.logic.bulks.route_queue import RouteQueue
from actors.logic.settlement.failure import Outcome
from actors.plan.plan import PipelinePlan, RoutePlan

#: Seconds that a bulk waits for more at the most where the system runs until nothing is left.
BURST_FLUSH = 0.25

_COMES_BACK = (Outcome.REQUEUE, Outcome.RETRY)


def handler_pools_of(plan: PipelinePlan) -> dict[str, HandlerPool]:
    """The staff of each pool, nobody hired yet."""
    numbers = count(1)
    return {
        pool: HandlerPool([route_queue_of(route, plan) for route in routes], numbers)
        for pool, routes in plan.pools.items()
    }


def route_queue_of(route: RoutePlan, plan: PipelinePlan) -> RouteQueue:
    """What waits of a route."""
    return RouteQueue(
        route.name,
        open_bulks(route, plan),
        route.in_flight,
        route.timeout,
        route.max_crashes,
        row=route.row,
        timeout_is_final=route.on_timeout.outcome not in _COMES_BACK,
        jobs=bool(route.tasks),
        at_most_once=route.at_most_once,
    )


def open_bulks(route: RoutePlan, plan: PipelinePlan) -> Batching | Ordering:
    """The grouping that a route asks for."""
    interval = route.bulk_flush_interval
    if plan.burst:
        interval = min(interval, BURST_FLUSH)
    size, most, alone = route.bulk_size, route.bulk_bytes, route.last_alone
    if route.order_by:
        message = connector_of(plan.kind).load("message")
        key_of = partial(order_key, message, order_by=route.order_by)
        return Ordering(size, most, interval, alone, key_of)
    return Batching(size, most, interval, alone)


def order_key(message: type[Message[Any]], raw: bytes, order_by: str) -> str:
    """The key of a delivery, as a text; empty where it cannot be read: never raises."""
    try:
        value = message.order_key(raw, order_by)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    except Exception:
        return ""
