"""Declaring what routes ask for, before they consume; what exists is never changed.

So are the queues in which retries wait, at least the first: a user who may not make them is
told at the start, and not with the first message that fails.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pika import exceptions
from pika.channel import Channel

from actors.connectors.rabbitmq.amqp import Link
from actors.connectors.rabbitmq.queues.declare import (
    FORBIDDEN,
    MISSING,
    UNLIKE,
    Declaration,
    code_of,
    needed_for_retries,
    too_long,
)
from actors.connectors.rabbitmq.queues.retry_queues import waiting_queue, ways
from actors.errors import Fault
from actors.log import own_logger
from actors.logic.consuming.limits import Inquiry, release, rescue_at, unlimited

CONSUMER_TIMEOUT = "x-consumer-timeout"  #: in milliseconds

logger = own_logger("actors.connection")


class Topology:
    """The declarations of a connection, by queue; each is carried out once on every link."""

    def __init__(
        self,
        declarations: Iterable[tuple[str, str]],
        retries: Mapping[str, float],
        tasks: Mapping[str, int] | None = None,
    ) -> None:
        """`declarations` as `PipelinePlan.topology` has them; `retries`: after how many seconds a
        message of a queue first comes back; `tasks`: the highest priority of each queue of jobs,
        which are made where there are none."""
        self._tasks = tasks or {}
        self._declarations = {queue: json.loads(text) for queue, text in declarations}
        self._retries = retries
        self._done: set[tuple[Link, str]] = set()
        self._limits: dict[str, int | None] = {}
        self._single: dict[str, bool] = {}

    @property
    def patiences(self) -> dict[str, float]:
        """Seconds after which RabbitMQ takes back what is not settled, of queues that are
        declared with a time of their own."""
        return {
            arguments["queue"]: timeout / 1000
            for declarations in self._declarations.values()
            for method, arguments in declarations
            if method == "queue_declare"
            and isinstance(timeout := arguments["arguments"].get(CONSUMER_TIMEOUT), int)
            and timeout > 0
        }

    def limit(self, queue: str) -> int | None:
        """How often a message may come back to a queue before the broker drops it; None: without
        end, or into a dead-letter exchange of the queue's own. Known once it is prepared."""
        return self._limits.get(queue)

    def single(self, queue: str) -> bool:
        """Whether the broker gives nothing to a queue's second consumer, or may give nothing.
        Known once the queue is prepared."""
        return self._single.get(queue, True)

    def prepare(
        self, link: Link, queue: str, done: Callable[[], None], failed: Callable[[str, Fault], None]
    ) -> None:
        """Declare what belongs to a queue, then call `done`; or `failed` with the cause."""
        if (link, queue) in self._done:
            done()
            return

        def finished() -> None:
            self._done = {(other, name) for other, name in self._done if other is link}
            self._done.add((link, queue))
            done()

        def declared() -> None:
            if queue in self._retries:
                _make_waiting_queue(link, queue, self._retries[queue], ask, failed)
            else:
                ask()

        def ask() -> None:
            if queue in self._limits or not release(link.broker):
                finished()
            else:
                _Asking(link, queue, asked).begin()

        def asked(limit: int | None, single: bool) -> None:
            self._limits[queue], self._single[queue] = limit, single
            if limit is not None:
                logger.warning(
                    "%s: RabbitMQ deletes a message of queue %s that comes back more than %d times;"
                    " Callboard puts it into %s.dead once it has come back %d times",
                    *(link.place, queue, limit, queue, rescue_at(limit)),
                )
            finished()

        if queue in self._declarations:
            _Declaring(link, self._declarations[queue], declared, failed).begin()
        elif queue in self._tasks:
            _make_task_queue(link, queue, self._tasks[queue], declared, failed)
        else:
            declared()


def _make_task_queue(
    link: Link,
    queue: str,
    priorities: int,
    done: Callable[[], None],
    failed: Callable[[str, Fault], None],
) -> None:
    """What is there stays as it is; a new one is replicated, where the broker can. Before 4.0 only
    a classic queue has priorities."""

    def made(code: int, cause: str) -> None:
        if code:
            failed(cause, Fault.MISSING if code == MISSING else Fault.REFUSED)
        else:
            done()

    quorum = {"x-queue-type": "quorum"}
    better = unlimited(quorum, link.broker)
    ways = [way for way in (better, quorum, {}) if way is not None]
    if priorities and release(link.broker) < (4, 0):
        ways = [{"x-max-priority": priorities}]
    Declaration(link, queue, ways, made).begin()


def _make_waiting_queue(
    link: Link,
    queue: str,
    delay: float,
    finished: Callable[[], None],
    failed: Callable[[str, Fault], None],
) -> None:
    def made(code: int, cause: str) -> None:
        if code == FORBIDDEN:
            needed = f"{needed_for_retries(queue)}; or give the route an action, and no Retry"
            failed(f"{cause}: {needed}", Fault.REFUSED)
        elif code:
            failed(cause, Fault.UNREACHABLE)
        else:
            finished()

    name = waiting_queue(queue, delay)
    if cause := too_long(name):
        failed(cause, Fault.REFUSED)
        return
    Declaration(link, name, ways(queue, delay, link.broker), made).begin()


class _Asking:
    """Asks for the limit of a queue that is there, and whether its consumer is single. Changes
    nothing, for what it declares is either as it is or refused; a channel for each question, for
    a refusal closes it."""

    def __init__(self, link: Link, queue: str, told: Callable[[int | None, bool], None]) -> None:
        """`told` is not called where the link is lost before."""
        self._link = link
        self._queue = queue
        self._told = told
        self._inquiry = Inquiry(link.broker)
        self._there = False

    def begin(self) -> None:
        self._link.briefly(self._ask)

    def _ask(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_closed)
        channel.queue_declare(self._queue, passive=True, callback=lambda _: self._on_there(channel))

    def _on_there(self, channel: Channel) -> None:
        self._there = True
        channel.queue_declare(
            self._queue,
            **self._inquiry.flags,
            arguments=self._inquiry.arguments,
            callback=partial(self._on_alike, channel),
        )

    def _on_alike(self, channel: Channel, _: Any) -> None:
        self._inquiry.accepted()
        channel.close()

    def _on_closed(self, _: Channel, reason: Any) -> None:
        if self._link.is_closed:
            return
        code = code_of(reason)
        if code == UNLIKE and self._inquiry.refused(reason.reply_text):
            self.begin()
        else:
            self._told(self._inquiry.limit if self._there else None, self._inquiry.single)


class _Declaring:
    """Goes through declarations, one after the other."""

    def __init__(
        self,
        link: Link,
        declarations: Iterable[tuple[str, dict[str, Any]]],
        finished: Callable[[], None],
        failed: Callable[[str, Fault], None],
    ) -> None:
        self._link = link
        self._left = deque(declarations)
        self._finished = finished
        self._failed = failed
        self._passive = False  # only ask whether it is there
        self._as_told = False  # add nothing to what the route declares

    def begin(self) -> None:
        self._link.briefly(self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_closed)
        self._next(channel)

    def _next(self, channel: Channel) -> None:
        if not self._left:
            channel.close()
            self._finished()
            return
        method, arguments = self._left[0]
        if self._passive:
            (name, value), *_ = arguments.items()
            arguments = {name: value, "passive": True}
        elif better := self._without_limit():
            arguments = {**arguments, "arguments": better}
        getattr(channel, method)(**arguments, callback=lambda _: self._on_declared(channel))

    def _on_declared(self, channel: Channel) -> None:
        if self._passive:
            logger.warning(
                "%s is there, but whether it is as declared cannot be told: no permission",
                self._what,
            )
        self._passive = self._as_told = False
        self._left.popleft()
        self._next(channel)

    def _without_limit(self) -> dict[str, Any] | None:
        """The arguments of a queue with no limit of deliveries, where that is to be tried first."""
        method, arguments = self._left[0]
        if self._as_told or method != "queue_declare":
            return None
        return unlimited(arguments["arguments"], self._link.broker)

    def _on_closed(self, _: Channel, reason: Any) -> None:
        if not isinstance(reason, exceptions.ChannelClosedByBroker):
            return  # by us, all done; or with the whole link, which tells it itself
        code = reason.reply_code
        if code == UNLIKE and not self._passive and self._without_limit():
            self._as_told = True  # it may be there as it was declared before
            self.begin()
            return
        if code == FORBIDDEN and not self._passive and self._left[0][0] != "queue_bind":
            self._passive = True
            self.begin()
            return
        fault = Fault.MISSING if code == MISSING else Fault.REFUSED
        self._failed(f"{self._what} cannot be declared: {code} {reason.reply_text}", fault)

    @property
    def _what(self) -> str:
        method, arguments = self._left[0]
        if method == "queue_bind":
            return f"binding of {arguments['queue']!r} to {arguments['exchange']!r}"
        (what, name), *_ = arguments.items()
        return f"{what} {name!r}"
