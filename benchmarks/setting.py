"""What a scene asks of a worker, handed over in the environment.

Only the standard library: peers read it in environments of their own.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace

VARIABLE = "BENCHMARK"


@dataclass(frozen=True)
class Setting:
    """Quantities of one scene, the same for every worker in it."""

    messages: int = 51_200  #: in the queue when the worker starts
    size: int = 120  #: bytes of a body
    bulk: int = 256  #: messages in a bulk, where the worker has bulks
    prefetch: int = 2048  #: for each queue
    processes: int = 1  #: that run handlers
    calls: int = 0  #: of the handler at once; 0: what the worker does by itself
    read: bool = False  #: the handler reads every body
    cpu: float = 0.0  #: seconds of CPU that a message takes
    wait: float = 0.0  #: seconds that an async handler awaits, once in a bulk
    outcomes: bool = False  #: one message in twenty is rejected, one is requeued once
    rate: float = 0.0  #: messages a second that come; 0: all are there before
    routes: int = 1  #: queues, each with a handler of its own
    pool: str = ""  #: of all routes

    @property
    def deliveries(self) -> int:
        """Messages that the handler gets, those that come twice counted twice."""
        return self.messages + self.messages // 20 if self.outcomes else self.messages

    @property
    def queues(self) -> list[str]:
        return [f"benchmark{number}" for number in range(self.routes)]

    def body(self, number: int) -> bytes:
        """A JSON string that begins with the number."""
        return b'"%020d%s"' % (number, b"x" * (self.size - 22))

    def shared(self, share: float) -> Setting:
        """The same with fewer messages, whole bulks of 256; unless all are alike slow, because
        messages take CPU or come at a rate."""
        if self.rate or self.cpu:
            return self
        return replace(self, messages=max(256, round(self.messages * share) // 256 * 256))

    def environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def read_environment(cls) -> Setting:
        return cls(**json.loads(os.environ.get(VARIABLE, "{}")))


def number_of(body: bytes | str) -> int:
    """The number that a body begins with."""
    return int(body[1:21])
