"""The queues in which retries wait: one for each span of time, which they leave by expiring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from actors.logic.consuming.limits import release

#: Seconds of the waiting queues. One time to live for each: a message leaves only at the
#: head, so a shorter one behind a longer one would wait with it.
STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

#: The first RabbitMQ whose quorum queues keep what expires until its new queue has it.
_SAFE_SINCE = (3, 10)


def step(delay: float) -> int:
    """The seconds a retry really waits: never less than `delay`; whole hours beyond one."""
    for seconds in STEPS:
        if delay <= seconds:
            return seconds
    return math.ceil(delay / 3600) * 3600


def waiting_queue(queue: str, delay: float) -> str:
    """The queue from which a message comes to `queue` after `delay`."""
    return f"{queue}.retry.{step(delay)}"


def is_safe(broker: Mapping[str, Any]) -> bool:
    """Whether a broker of these properties can dead-letter at least once."""
    return release(broker) >= _SAFE_SINCE


def arguments(queue: str, delay: float, safe: bool) -> dict[str, Any]:
    """With what a waiting queue is declared where it does not exist."""
    waits = {
        "x-message-ttl": step(delay) * 1000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
    }
    if not safe:
        return waits
    return waits | {
        "x-queue-type": "quorum",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",  # without it the strategy has no effect
    }


def ways(queue: str, delay: float, broker: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same for a broker of these properties: what is to be tried, the best first."""
    classic = arguments(queue, delay, safe=False)
    return [arguments(queue, delay, safe=True), classic] if is_safe(broker) else [classic]
