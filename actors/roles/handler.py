"""The handler: runs the user's code on bulks and answers each with a settlement.

It remembers every answer until the batcher confirms it, so that a bulk which comes
twice runs once and a settlement which got lost is said again.
"""

from __future__ import annotations

from math import inf

from actors.logic.bulks.wear import Wear, least
from actors.plan.plan import PipelinePlan
from actors.roles.context import Context
from actors.roles.port import Runner
from actors.roles.protocol import (
    Began,
    Begun,
    Bulk,
    Cancel,
    Configure,
    Leased,
    Outstanding,
    Recalled,
    Received,
    Retire,
    Settlement,
)
from actors.roles.usercode import UserCodeActor


class Handler(UserCodeActor[Runner]):
    """One process of user code, for the routes of one pool."""

    role = "handler"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._batcher = ""
        self._receipts = False  # several bulks are done at once: say what has come
        self._wear = Wear(0, 0)
        self._worn = ""  # why it asked to be replaced
        self._working: dict[int, None] = {}  # in the order in which they came, and are done
        self._answered: dict[int, Settlement] = {}
        # Numbers below this one are refused, but for those that the batcher still waits for.
        self._closed_below = 0
        self._awaited: set[int] = set()
        # Jobs at work, and when each was said to be.
        self._begun: dict[int, tuple[Begun, float]] = {}
        self._worker = ""

    def _client_for(self, message: Configure) -> Runner:
        assert isinstance(message.plan, PipelinePlan)
        routes = message.plan.pools[message.pool]
        one_by_one = len({route.row for route in routes}) == 1 and routes[0].in_flight == 1
        self._receipts = not one_by_one
        max_messages = least(route.max_messages for route in routes)
        self._wear = Wear(max_messages, least(route.max_memory for route in routes))
        runner: Runner = self._context.client("runner", (message.plan, message.pool))
        if message.node:
            runner.lease(-inf)  # until its host has said more
        return runner

    def _work(self, message: object, sender: str, now: float, code: Runner) -> None:
        match message:
            case Bulk():
                self._bulk(message, sender, code)
            case Settlement():
                self._done(message)
                self._look_at_wear(code)
            case Began():
                self._begun |= {job.number: (job, now) for job in message.jobs}
                self._worker = message.worker
                self._context.send(self._batcher, message)
            case Cancel():
                code.cancel(message.jobs)
            case Leased():
                code.lease(message.until)
            case Recalled():
                code.recall(message.numbers)
            case Outstanding():
                self._held(message, sender)
                self._say_begun(sender, now)
                self._ask_to_retire()  # the first word may have got lost
            case _:
                raise TypeError(f"a handler has no use for {message}")

    def _bulk(self, bulk: Bulk, sender: str, code: Runner) -> None:
        self._batcher = sender
        numbers = set(range(bulk.number, bulk.number + len(bulk.sizes)))
        self._awaited = {n for n in self._awaited if n >= bulk.open_from}
        self._close(bulk.open_from, self._awaited)
        if any(self._refuses(number) for number in numbers):
            # It came before, in whole or in part; what is missing the batcher sends again.
            return
        self._working |= dict.fromkeys(sorted(numbers))
        self._wear.take(sum(bulk.sizes))
        code.submit(bulk)
        if self._receipts:
            self._context.send(sender, Received(tuple(numbers)))

    def _refuses(self, number: int) -> bool:
        if number in self._working or number in self._answered:
            return True
        return number < self._closed_below and number not in self._awaited

    def _done(self, done: Settlement) -> None:
        for number in done.numbers:
            self._working.pop(number, None)
            self._begun.pop(number, None)
        self._answered.update(dict.fromkeys(done.numbers, done))
        self._context.send(self._batcher, done)

    def _look_at_wear(self, code: Runner) -> None:
        if not self._worn:
            self._worn = self._wear.cause(code.memory() if self._wear.weighs else 0)
            self._ask_to_retire()

    def _ask_to_retire(self) -> None:
        if self._worn:
            self._context.send(self._supervisor, Retire(self._context.name, self._worn))

    def _held(self, message: Outstanding, sender: str) -> None:
        """Say again what the batcher still waits for, and what is here."""
        if message.next < self._closed_below:
            return  # overtaken by a later one
        self._close(message.next, set(message.numbers))
        again = {id(s): s for number, s in self._answered.items() if number in self._awaited}
        for settlement in again.values():
            self._context.send(sender, settlement)
        self._context.send(sender, Outstanding((*self._working, *self._answered)))

    def _say_begun(self, sender: str, now: float) -> None:
        """Say again which jobs are at work: the first word may have got lost."""
        jobs = [job._replace(left=job.left - (now - said)) for job, said in self._begun.values()]
        if jobs:
            self._context.send(sender, Began(0, self._worker, tuple(jobs)))

    def _close(self, below: int, awaited: set[int]) -> None:
        """The batcher has all answers below a number but the awaited ones; should a bulk of
        the others still come, it is refused, and what was refused once is refused for ever."""
        awaited = {n for n in awaited if n >= self._closed_below or n in self._awaited}
        if below >= self._closed_below:
            self._closed_below, self._awaited = below, awaited
        for number in [n for n in self._answered if n < below and n not in awaited]:
            del self._answered[number]
