"""Plays the connection actor towards a client, on the port alone."""

from __future__ import annotations

import json
import select
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from actors.connectors.sse.connection import SSEClient
from actors.logic.messages.records import Record, unpack
from actors.logic.settlement.ledger import Flush
from actors.plan.plan import PipelinePlan
from actors.roles.port import Fetched

T = TypeVar("T")


def plan(url: str, state_dir: Path, **settings: Any) -> PipelinePlan:
    text = json.dumps({"url": url, "idle_timeout": 5.0, "name": "sse", **settings})
    return PipelinePlan(name="sse", kind="sse", settings=text, state_dir=str(state_dir))


class Driver:
    """Turns the client as a stage does, and keeps what it reports."""

    def __init__(self, url: str, state_dir: Path, **settings: Any) -> None:
        self.client = SSEClient(plan(url, state_dir, **settings))
        self.reports: list[Any] = []
        self.client.open()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def until(self, done: Callable[[], bool], within: float = 10.0) -> None:
        end = time.monotonic() + within
        while not done():
            now = time.monotonic()
            assert now < end, self.reports
            due = self.client.deadline()
            wait = min(0.5, max(0.0, due - now)) if due is not None else 0.5
            readable, _, _ = select.select([self.client.fileno()], [], [], wait)
            now = time.monotonic()
            if readable or (due is not None and now >= due):
                self.reports += self.client.turn(now)

    def wait_for(self, kind: type[T], count: int = 1, within: float = 10.0) -> T:
        self.until(lambda: len(self.all(kind)) >= count, within)
        return self.all(kind)[count - 1]

    def all(self, kind: type[T]) -> list[T]:
        return [report for report in self.reports if isinstance(report, kind)]

    def wait_for_events(self, count: int, within: float = 10.0) -> list[Record]:
        self.until(lambda: len(self.records()) >= count, within)
        return self.records()

    def records(self) -> list[Record]:
        return [record for fetched in self.all(Fetched) for record in cut(fetched)]

    def ids(self) -> list[str]:
        return [record.id for record in self.records()]

    def ack(self, queue: str, epoch: int, first: int, last: int) -> None:
        self.client.settle(queue, epoch, Flush(prefix=last, acked=((first, last),)))

    def shut(self) -> None:
        self.client.shut()


def cut(fetched: Fetched) -> list[Record]:
    ends = array("I", fetched.ends)
    begins = [0, *ends[:-1]]
    return [unpack(fetched.blob[a:b]) for a, b in zip(begins, ends, strict=True)]
