"""A pipeline's word with the peer of its connection: when to try again, and when to give up."""

from __future__ import annotations

from actors.errors import Exit, Fault
from actors.log import own_logger
from actors.logic.supervision.children import Slot
from actors.logic.supervision.restart import Backoff
from actors.plan.plan import PipelinePlan
from actors.roles.context import Context
from actors.roles.protocol import AttemptFailed, Connect, ConnectionLost, Failed, NotReady, Reminder

log = own_logger("actors.supervisor")

#: Seconds until a peer that refuses us is asked again.
REFUSED_RETRY_S = 60.0


class ReconnectPolicy:
    """The part of a pipeline that holds the backoff of its connection.

    What was never well will not get well by waiting, unless it is told to wait: then the
    answer is `Failed`.
    """

    def __init__(self, plan: PipelinePlan, context: Context, parent: str, connection: Slot) -> None:
        self._plan = plan
        self._context = context
        self._parent = parent
        self._connection = connection
        self._backoff = Backoff()
        self._due: float | None = None
        self._failures = 0  # attempts to connect in this outage

    def connect(self) -> None:
        """Have the connection try now."""
        self._due = None
        self._context.send(self._connection.name, Connect(self._backoff.attempt + 1))

    def connect_if_due(self, now: float) -> None:
        if self._due is not None and now >= self._due:
            self.connect()

    def wait(self, now: float) -> float | None:
        """Seconds until the next attempt; None while none is due."""
        return None if self._due is None else max(0.0, self._due - now)

    def check(self, now: float) -> None:
        """Once a round: a word to connect, or that the connection was lost, may be lost too."""
        self.connect_if_due(now)
        if self._due is None and self._connection.name and not self._connection.ready:
            self.connect()

    def on_lost(self, message: ConnectionLost, now: float) -> Failed | None:
        """The connection lost its peer, or did not find it."""
        if self._due is not None:
            return None  # said again while the backoff lasts
        self._tell_failure(message)
        if failed := self._hopeless(message.fault, message.cause):
            return failed
        delay = self._backoff.fail(message.lived, self._context.random)
        if message.fault != Fault.UNREACHABLE:
            delay = REFUSED_RETRY_S
        self._due = now + delay
        log.warning(
            "connection %s%s: %s; tried again in %.1f s",
            *(self._plan.name, " lost" if message.lived else "", message.cause, delay),
            extra={"cause": message.cause, "delay": round(delay, 1)},
        )
        self._context.remind(delay, Reminder("connect"))
        return None

    def on_queue_lost(self, message: NotReady) -> Failed | None:
        """The connection lost a queue, which it opens again by itself."""
        if failed := self._hopeless(message.fault, message.cause):
            return failed
        log.warning(
            "connection %s: lost %s; tries again in %.1f s",
            *(self._plan.name, message.cause, message.delay),
            extra={"cause": message.cause, "delay": round(message.delay, 1)},
        )
        return None

    def _tell_failure(self, message: ConnectionLost) -> None:
        """For the app's callbacks: what had been open begins a new outage."""
        if message.lived:
            self._failures = 0
            return
        self._failures += 1
        name = self._plan.name.partition(":")[0]  # without the vhost
        failed = AttemptFailed(name, message.cause, message.fault, self._failures)
        self._context.send(self._parent, failed)

    def _hopeless(self, fault: str, cause: str) -> Failed | None:
        if self._connection.was_ready or (fault == Fault.UNREACHABLE and self._plan.wait):
            return None
        code = Exit.UNREACHABLE if fault == Fault.UNREACHABLE else Exit.CONFIG
        return Failed(code, f"connection {self._plan.name}: {cause}")
