"""Handlers as a play has them: what they do with a message is drawn beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from random import Random
from typing import Any, NamedTuple

from actors.api.connector import connector_of
from actors.api.message import Handout, Message
from actors.logic.settlement.failure import Outcome, Policy
from actors.plan.plan import PipelinePlan
from actors.roles.port import Ended, Started, StartFailed
from actors.roles.protocol import Bulk, Settlement
from actors.stages.memory import Died
from actors.usercode.outcomes import Policies, Share, joined, returned, settle, shares
from tests.simulation.invariants import Witness
from tests.simulation.peer import Peer
from tests.simulation.scene import Scene

#: Seconds that a handler takes: most take none.
SECONDS = (0.0, 0.0, 0.1)
SLOW = 8.0


class Working(NamedTuple):
    """A bulk in a handler's hand."""

    until: float
    share: Share
    messages: list[Message[int]]
    handout: Handout
    error: BaseException | None
    dies: bool


class ScriptedCode:
    """A `Runner` that follows the stories of its messages; the outcomes are the real ones."""

    def __init__(
        self,
        scene: Scene,
        peer: Peer,
        witness: Witness,
        random: Random,
        playing: Callable[[], str],
        settings: tuple[PipelinePlan, str],
    ) -> None:
        pipeline, pool = settings
        self._rows = {plan.name: plan.row for plan in pipeline.pools[pool]}
        self._room = {plan.row: plan.in_flight for plan in pipeline.pools[pool]}
        self._kind = connector_of(pipeline.kind).load("message")
        self._rules = Policies(Policy(Outcome.ACK), scene.table)
        self._peer = peer
        self._witness = witness
        self._random = random
        self._playing = playing
        self._waiting: list[tuple[str, Share]] = []  # with its route
        self._working: list[Working] = []
        self._events: list[Any] = []

    def fileno(self) -> int:
        return -1

    def deadline(self) -> float | None:
        if self._events:
            return self._peer.now
        return min((work.until for work in self._working), default=None)

    def start(self) -> None:
        failed = self._peer.faults.strikes("no start")
        self._events.append(StartFailed("as told") if failed else Started())

    def stop(self) -> None:
        self._events.append(Ended())

    def close(self) -> None:
        """Its process is gone."""

    def submit(self, bulk: Bulk) -> None:
        self._waiting += ((bulk.route, share) for share in shares(bulk))
        self._begin()

    def lease(self, until: float) -> None:
        """Of handlers on joined hosts, which `hosts.py` plays."""

    def recall(self, numbers: Collection[int]) -> None:
        self._events += [returned(one) for _, one in self._waiting if one.number in numbers]
        self._waiting = [each for each in self._waiting if each[1].number not in numbers]

    def memory(self) -> int:
        return 0

    def turn(self, now: float) -> list[Any]:
        done: list[Settlement] = []
        for work in [work for work in self._working if work.until <= now]:
            if work.dies:
                raise Died("as told")
            self._working.remove(work)
            self._room[self._rows[work.handout.route]] += 1
            done.append(settle(work.share, work.messages, work.handout, work.error, self._rules))
        self._begin()
        events, self._events = self._events, []
        return [*events, joined(done)] if done else events

    def _begin(self) -> None:
        """In each row so many bulks at once, in the order in which they came."""
        waiting, self._waiting = self._waiting, []
        for route, share in waiting:
            row = self._rows[route]
            if not self._room[row]:
                self._waiting.append((route, share))
                continue
            self._room[row] -= 1
            handout = Handout(route, int)
            messages = share.messages(self._kind, handout)
            receipts = (
                (piece.epoch, piece.first + index)
                for piece, start, stop in share.portions
                for index in range(start, stop)
            )
            bulk = list(zip(receipts, messages, strict=True))
            self._witness.began(self._playing(), route, bulk)
            self._working.append(self._work(share, messages, handout))

    def _work(self, share: Share, messages: list[Message[int]], handout: Handout) -> Working:
        seconds = self._random.choice(SECONDS)
        error, dies = None, False
        for message in messages:
            match self._witness.stories[message.body].act():
                case "raise":
                    error = RuntimeError("as told")
                case "crash":
                    dies = True
                case "hang":
                    seconds = math.inf
                case "slow":
                    seconds += SLOW * self._random.random() / len(messages)
                    message.accept()
                case act:
                    self._mark(message, act)
        return Working(self._peer.now + seconds, share, messages, handout, error, dies)

    def _mark(self, message: Message[int], act: str) -> None:
        match act:
            case "requeue":
                message.reject()
            case "later":
                message.reject(delay=2.0)
            case "snooze":
                message.snooze(1.0 if self._random.random() < 0.9 else 70.0)
            case "reject":
                message.reject(requeue=False)
            case "dead":
                message.dead_letter("as told")
