"""An exclusive queue as the lock of all who know its name on one broker."""

from __future__ import annotations

import dataclasses
from typing import Any

from pika.channel import Channel

from actors.connectors.killswitch import vital_thread
from actors.connectors.rabbitmq.amqp import Link, Settings
from actors.connectors.rabbitmq.ioloop import IOLoop
from actors.errors import Fault
from actors.log import own_logger

#: Seconds between two tries to take what another holds.
RETRY_S = 1.0

#: Seconds. A holder whose host is gone is missed by the broker after two of these.
HEARTBEAT = 5

logger = own_logger("actors.clock")


class QueueLock:
    """An exclusive queue, and the thread that tries to have it and keeps its connection."""

    def __init__(self, settings: str, name: str) -> None:
        self._settings = dataclasses.replace(Settings.parse(settings), heartbeat=HEARTBEAT)
        self._name = name
        self._held: bool | None = None
        self._loop = IOLoop()
        self._link: Link | None = None
        self._closed = False
        self._thread = vital_thread(self._run, "singleton")
        self._thread.start()

    def held(self) -> bool | None:
        return self._held

    def close(self) -> None:
        self._loop.add_callback(self._end)
        self._thread.join(2.0)

    def _run(self) -> None:
        self._connect()
        while not self._closed:
            self._loop.turn(RETRY_S)
        for _ in range(2):
            self._loop.turn()
        self._loop.close()

    def _end(self) -> None:
        self._closed = True
        if self._link is not None:
            self._link.drop()

    def _connect(self) -> None:
        try:
            self._link = Link(self._settings, "singleton", self._loop, self._try, self._on_lost)
        except OSError as error:
            self._on_lost(str(error), Fault.REFUSED)

    def _on_lost(self, cause: str, fault: Fault) -> None:
        logger.warning("timers with SINGLETON rest: %s", cause)
        self._link, self._held = None, None if self._held is None else False
        self._loop.call_later(RETRY_S, self._connect)

    def _try(self) -> None:
        if self._link is not None and self._link.is_open:
            self._link.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_refused)
        channel.queue_declare(self._name, exclusive=True, callback=self._on_held)

    def _on_held(self, _: Any) -> None:
        logger.info("%s is held by this process", self._name)
        self._held = True

    def _on_refused(self, _: Channel, reason: Any) -> None:
        self._held = False
        self._loop.call_later(RETRY_S, self._try)
