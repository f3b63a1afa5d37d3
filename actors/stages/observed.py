"""User code in memory: its hand-outs are counted, and it dies where a test says so."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from typing import Any

from actors.api.app import App
from actors.api.connector import connector_of
from actors.api.message import Handout, Message
from actors.connectors.memory.world import World
from actors.plan.plan import PipelinePlan
from actors.roles.protocol import Bulk
from actors.stages.memory import Died
from actors.usercode.outcomes import shares
from actors.usercode.runner import InlineUserCode

#: Whether a handler dies at a message.
When = Callable[[Message[Any]], bool]

_ITEM = array("I").itemsize


class Crash(BaseException):
    """The exception that `crash` raises in memory: no handler catches it by accident."""


class ObservedCode(InlineUserCode):
    """The handlers of one pool of a pipeline, with the world that their messages come from."""

    def __init__(
        self,
        app: App,
        pipeline: PipelinePlan,
        pool: str,
        world: World,
        doomed: list[When],
        hooks: bool,
    ) -> None:
        super().__init__(
            app, pipeline.pools[pool], pipeline.kind, world.clock, hooks, lethal=(Crash,)
        )
        self._plans = pipeline.pools[pool]
        self._pipeline = pipeline
        self._world = world
        self._doomed = doomed
        self._dies = False

    @property
    def routes(self) -> list[str]:
        return [plan.name for plan in self._plans]

    def errors(self, route: str) -> list[BaseException]:
        """What a route's handler raised, and whatever else of its process did."""
        serves = any(route == plan.name for plan in self._plans)
        return [error for by, error in self.raised if serves and by in ("", route)]

    def submit(self, bulk: Bulk) -> None:
        for piece in bulk.pieces:
            self._world.hand_out(
                self._pipeline.name, piece.epoch, piece.first, len(piece.ends) // _ITEM
            )
        if self._doomed and (when := self._fate(bulk)):
            self._doomed.remove(when)
            self._dies = True
        else:
            super().submit(bulk)

    def turn(self, now: float) -> list[Any]:
        if self._dies:
            raise Died("killed by the test")
        try:
            return super().turn(now)
        except Crash as crash:
            self.raised[:] = [each for each in self.raised if each[1] is not crash]
            raise Died(str(crash)) from crash

    def _fate(self, bulk: Bulk) -> When | None:
        handout = Handout(bulk.route, json.loads)
        kind = connector_of(self._pipeline.kind).load("message")
        messages = [message for share in shares(bulk) for message in share.messages(kind, handout)]
        return next((when for when in self._doomed if any(map(when, messages))), None)
