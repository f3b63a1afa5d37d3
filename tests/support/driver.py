"""Drives a client of the world as a stage does: polls its descriptor, keeps its deadline."""

from __future__ import annotations

import select
import time
from types import TracebackType
from typing import Any, Self, TypeVar

Event = TypeVar("Event")


class Driver:
    """The events of a client as they come; leaves the client closed."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.events: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.client.close()

    def turn(self, seconds: float) -> list[Any]:
        """Wait for work, no longer than so many seconds, and do it."""
        now = time.monotonic()
        due = self.client.deadline()
        wait = seconds if due is None else min(seconds, max(0.0, due - now))
        poll = select.poll()
        poll.register(self.client.fileno(), select.POLLIN)
        poll.poll(wait * 1000)
        events: list[Any] = self.client.turn(time.monotonic())
        self.events += events
        return events

    def until(self, kind: type[Event], seconds: float = 10.0, **wanted: Any) -> Event:
        """The first event of a kind with such attributes that was not asked for before."""
        deadline = time.monotonic() + seconds
        while True:
            for index, event in enumerate(self.events):
                if isinstance(event, kind) and wanted.items() <= _attributes(event).items():
                    del self.events[index]
                    return event
            if time.monotonic() > deadline:
                raise AssertionError(f"no {kind.__name__} {wanted} in {seconds} s: {self.events}")
            self.turn(max(0.0, deadline - time.monotonic()))

    def idle(self, seconds: float) -> list[Any]:
        """All events of a span of time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.turn(left)
        events, self.events = self.events, []
        return events


def _attributes(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__slots__}
