"""A connector of this test's own: messages in a list of the connection's process, `toy:`."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from actors import App, Message, Options
from actors.api.connections import Connection
from actors.api.connector import Connector, register
from actors.logic.messages.records import pack
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import (
    ConnectionClient,
    Consuming,
    Depth,
    Fetched,
    Jobless,
    Lost,
    Opened,
    Patient,
    Republish,
    Republished,
    Stopped,
)


class ToyConnection(Connection):
    """A list of texts for each queue."""

    kind: ClassVar[str] = "toy"
    default_name: ClassVar[str] = "toy"
    endpoint: ClassVar[frozenset[str]] = frozenset()

    lists: dict[str, list[str]] = Field(default={"words": ["one", "two", "three"]})

    def as_json(self, vhost: str, paths: Mapping[str, Mapping[str, str]]) -> str:
        return json.dumps({"name": self.name, "lists": self.lists})

    @classmethod
    def from_url(cls, url: str) -> Self:
        return cls()

    @staticmethod
    def place_of(settings: Mapping[str, Any]) -> str:
        return "toy:"


class ToyClient(Patient, Jobless, ConnectionClient):
    """Hands out what is in the lists; what is given back comes again."""

    def __init__(self, plan: PipelinePlan) -> None:
        self._lists: dict[str, list[bytes]] = {
            queue: [text.encode() for text in texts]
            for queue, texts in json.loads(plan.settings)["lists"].items()
        }
        self._held: dict[int, dict[int, bytes]] = {}  # by epoch and position
        self._consumed: dict[int, tuple[str, int]] = {}  # queue and window of an epoch
        self._last: dict[int, int] = {}
        self._events: list[Any] = []

    def fileno(self) -> int:
        return -1

    def deadline(self) -> float | None:
        return 0.0 if self._events or self._ready() else None  # now, or never

    def turn(self, now: float) -> list[Any]:
        self._events += filter(None, map(self._fetch, list(self._consumed)))
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """There is nothing to let go of."""

    def open(self) -> None:
        self._events.append(Opened("a list"))

    def consume(self, queue: str, epoch: int, window: int, alone: int = 0) -> None:
        self._consumed[epoch] = queue, window
        self._held[epoch], self._last[epoch] = {}, 0
        self._events.append(Consuming(queue, epoch))

    def cancel(self, queue: str, epoch: int) -> None:
        self._consumed.pop(epoch, None)
        self._events.append(Stopped(queue, epoch))

    def resume(self, queue: str, epoch: int) -> None:
        self.consume(queue, epoch, 100)

    def settle(self, queue: str, epoch: int, flush: Flush) -> None:
        held = self._held.get(epoch, {})
        for position in (*flush.failed, *flush.returned):
            self._lists[queue].append(held.pop(position))
        for position in flush.rejected:
            held.pop(position)
        for first, last in flush.acked:
            for position in range(first, last + 1):
                held.pop(position, None)

    def republish(self, request: Republish) -> None:
        self._held[request.epoch].pop(request.position)
        self._events.append(Republished(request.token))

    def measure(self, queue: str) -> None:
        self._events.append(Depth(queue, len(self._lists.get(queue, ()))))

    def shut(self) -> None:
        self._consumed.clear()
        self._events.append(Lost(""))

    def _ready(self) -> bool:
        return any(
            self._lists.get(queue) and window > len(self._held[epoch])
            for epoch, (queue, window) in self._consumed.items()
        )

    def _fetch(self, epoch: int) -> Fetched | None:
        queue, window = self._consumed[epoch]
        bodies = self._lists.get(queue, [])[: window - len(self._held[epoch])]
        if not bodies:
            return None
        del self._lists[queue][: len(bodies)]
        first = self._last[epoch] + 1
        self._last[epoch] += len(bodies)
        self._held[epoch].update(enumerate(bodies, first))
        raws = [pack(f"{body!r}", queue, b"", 0, 0.0, 0, body) for body in bodies]
        ends = array("I", accumulate(map(len, raws))).tobytes()
        return Fetched(queue, epoch, first, b"".join(raws), ends)


TOY = Connector(
    kind="toy",
    schemes=("toy",),
    connection=f"{__name__}:ToyConnection",
    message="actors.connectors.spool.message:SpoolMessage",
    client=f"{__name__}:ToyClient",
    plain_text=True,
    local=True,
)

register(TOY)

app = App(connections=[ToyConnection()])


@app.route(["words"], options={Options.BULK_SIZE: 2, Options.BULK_FLUSH_INTERVAL: 0.1})
def note(messages: list[Message[str]]) -> None:
    """Writes down every text that it receives."""
    with Path(os.environ["TOY_NOTES"]).open("a") as file:
        file.writelines(f"{message.body}\n" for message in messages)
