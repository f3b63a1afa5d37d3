"""The test kit: an app on the in-memory stage, in virtual time, with the real actors."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from actors.app import App
from actors.clients.runner import InlineClockCode, InlineUserCode
from actors.clients.verdicts import shares
from actors.message import KINDS, Handout, Message
from actors.options import Actions
from actors.plan import UnitPlan
from actors.protocol import Bulk, Configure, Drain, ReportStatus, Status
from actors.settings import Settings
from actors.stages.memory import ClientFactory, Died, MemoryStage
from actors.stages.world import Stored, World

ROOT = "root#1"

_in_memory = False


class Crash(BaseException):
    """What `crash` raises in memory: no handler catches it by accident."""


def crash() -> None:
    """End this process as a fault in native code would; in memory, the handler actor."""
    if _in_memory:
        raise Crash("crash() was called")
    os.abort()


class Sent:
    """One message that was delivered, and its history so far."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    @property
    def actions(self) -> list[Actions]:
        """What was done with it, in order; a retry is a REQUEUE that waits elsewhere."""
        return [Actions(action) for action in self._stored.settled]

    @property
    def attempts(self) -> int:
        """How often a handler had it."""
        return self._stored.handed_out

    @property
    def reason(self) -> str:
        """Why it was retried or dead-lettered."""
        return self._stored.reason

    @property
    def dead(self) -> bool:
        return Actions.DEAD_LETTER in self.actions

    @property
    def id(self) -> str:
        return self._stored.id

    @property
    def body(self) -> bytes:
        return self._stored.body

    def __repr__(self) -> str:
        return f"<Sent {self.id} {[str(a) for a in self.actions]}>"


class InMemorySystem:
    """An app, played by the actors that play it for real.

    `state` replaces `app[…]` and skips the start-up and shutdown hooks. An app that names
    no connection plays on a spool. `seed` draws the order in which actors get their turns.
    Leaving the block raises what handlers raised and nobody read with `errors`, unless
    `raise_errors` is False.
    """

    def __init__(
        self,
        app: App,
        state: Mapping[str, Any] | None = None,
        *,
        raise_errors: bool = True,
        seed: int = 0,
        settings: Settings | None = None,
    ) -> None:
        self._app = app
        self._state = state
        self._raise_errors = raise_errors
        self._seed = seed
        self._settings = settings or Settings(connections=() if app.connections else ("spool:",))
        self._ids = itertools.count(1)
        self._codes: list[tuple[str, InlineUserCode]] = []
        self._read: set[int] = set()
        self._doomed: list[Callable[[Message[Any]], bool]] = []

    # ── the block ─────────────────────────────────────────────────────────────

    def __enter__(self) -> Self:
        global _in_memory
        _in_memory = True
        self._kept = dict(self._app.state)
        if self._state is not None:
            self._app.frozen = False
            self._app.state.clear()
            self._app.state.update(self._state)
        plan = self._app.plan(self._settings)
        self.world = World(self._clock)
        clients: dict[str, ClientFactory] = {
            "runner": self._runner,
            "clock": lambda _: InlineClockCode(self._app, self._clock, self._state is None),
            **dict.fromkeys(("amqp", "spool", "sse"), self.world.client),
        }
        self.stage = MemoryStage(clients, self._seed)
        self.stage.create(ROOT, "root")
        self._tell(Configure(plan, "root"))
        self._queues = {queue for unit in plan.units for r in unit.routes for queue in r.queues}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _in_memory
        if kind is None:
            self._tell(Drain(10.0))
            self.stage.advance(10.0)
        _in_memory = False
        self._app.frozen = False
        self._app.state.clear()
        self._app.state.update(self._kept)
        unread = [e for e in self._raised() if id(e) not in self._read]
        if kind is None and self._raise_errors and unread:
            raise unread[0] if len(unread) == 1 else BaseExceptionGroup("unread errors", unread)

    # ── what a test does ──────────────────────────────────────────────────────

    def deliver(
        self,
        queue: str,
        bodies: Iterable[Any],
        *,
        headers: Mapping[str, Any] | None = None,
        attempts: int = 0,
        redelivered: bool = False,
    ) -> list[Sent]:
        """Put messages into a queue and let the system work on them.

        A body of bytes is taken as it is, everything else becomes JSON.
        """
        if queue not in self._queues:
            known = ", ".join(sorted(self._queues))
            raise ValueError(f"no route serves queue {queue!r}; there are: {known}")
        sent = []
        for body in bodies:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            stored = Stored(
                data,
                str(next(self._ids)),
                dict(headers or {}),
                attempts=attempts,
                redelivered=redelivered or attempts > 0,
            )
            self.world.put(queue, stored)
            sent.append(Sent(stored))
        self.run_until_idle()
        return sent

    def advance(self, seconds: float) -> None:
        """Let virtual time pass: flush timers, backoff, retries, `asyncio.sleep` of handlers."""
        self.stage.advance(seconds)

    def run_until_idle(self) -> None:
        """Let the system work until nothing is left to do at this moment."""
        self.stage.run_until_idle()

    def kill(
        self, role: str, when: Callable[[Message[Any]], bool] | None = None, times: int = 1
    ) -> None:
        """Kill the actors of a role; with `when`, so many handlers, each at such a message."""
        if when is None:
            for name in self.stage.named(role):
                self.stage.kill(name, "killed by the test")
            self.run_until_idle()
        elif role == "handler":
            self._doomed += [when] * times
        else:
            raise ValueError(f"when: only a handler sees messages, a {role} does not")

    def disconnect(self) -> None:
        """Cut every connection; what is unsettled is delivered again after the backoff."""
        self.world.disconnect()
        self.run_until_idle()

    # ── what a test looks at ──────────────────────────────────────────────────

    def published(self) -> list[Stored]:
        """What handlers published and no route of the app has fetched."""
        return [
            message
            for queue, messages in self.world.queues.items()
            if queue not in self._queues
            for message in messages
        ]

    def dead(self, queue: str) -> list[Sent]:
        """The dead letters of a queue."""
        return [Sent(stored) for stored in self.world.dead.get(queue, ())]

    def errors(self, route: str) -> list[BaseException]:
        """What the handlers of a route raised; they count as read from now on."""
        errors = [error for name, code in self._codes if name == route for error in code.raised]
        self._read.update(id(error) for error in errors)
        return errors

    def status(self) -> dict[str, Any]:
        """What `callboard status --json` would print."""
        self._tell(ReportStatus())
        answers = [message for message in self.stage.outbox if isinstance(message, Status)]
        report: dict[str, Any] = json.loads(answers[-1].report)
        return report

    # ── the inside ────────────────────────────────────────────────────────────

    def _clock(self) -> float:
        return self.stage.now

    def _tell(self, message: Configure | Drain | ReportStatus) -> None:
        self.stage.post("launcher", ROOT, message)
        self.run_until_idle()

    def _raised(self) -> list[BaseException]:
        return [error for _, code in self._codes for error in code.raised]

    def _runner(self, settings: tuple[UnitPlan, str]) -> Observed:
        unit, name = settings
        (route,) = (route for route in unit.routes if route.name == name)
        code = Observed(
            self._app, route, unit.kind, self._clock, self._state is None, lethal=(Crash,)
        )
        code.observe(self.world, self._doomed)
        self._codes.append((name, code))
        return code


class Observed(InlineUserCode):
    """User code whose hand-outs are counted, and which dies where the test says so."""

    def observe(self, world: World, doomed: list[Callable[[Message[Any]], bool]]) -> None:
        self._world = world
        self._doomed = doomed
        self._dies = False

    def submit(self, bulk: Bulk) -> None:
        for piece in bulk.pieces:
            count = len(piece.ends) // 4
            self._world.hand_out(piece.epoch, piece.first, count)
        for when in self._doomed:
            if any(when(message) for message in self._messages(bulk)):
                self._doomed.remove(when)
                self._dies = True
                return
        super().submit(bulk)

    def turn(self, now: float) -> list[Any]:
        if self._dies:
            raise Died("killed by the test")
        try:
            return super().turn(now)
        except Crash as error:
            raise Died(str(error)) from error

    def _messages(self, bulk: Bulk) -> list[Message[Any]]:
        handout = Handout(bulk.route, json.loads)
        kind = KINDS[self._code._kind]
        return [message for share in shares(bulk) for message in share.messages(kind, handout)]
