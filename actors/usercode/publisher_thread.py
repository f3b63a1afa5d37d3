"""A thread that stores what handlers put, so that no event loop waits for a broker or a disk."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple

from actors.api.connector import connector_of
from actors.errors import PublishError
from actors.logic.messages.entry import MessageId, OutgoingMessage, Store

#: Seconds within which a message is stored, a broker that comes back included.
PUBLISH_TIMEOUT_S = 30.0

#: Messages that are sent together, and wait for their confirms together.
BATCH_MAX = 256


class _Item(NamedTuple):
    message: OutgoingMessage
    future: Future[str]
    due: float


class PublisherThread:
    """One store, and the thread in which it may block. What is put goes out in order."""

    def __init__(self, store: Store) -> None:
        self.pid = os.getpid()  #: a forked child has neither the thread nor the connection
        self.properties = store.properties
        self._store = store
        self._waiting: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
        self._thread.start()

    def begin(self, message: OutgoingMessage) -> Future[str]:
        """The message's id once it is stored; fails with `PublishError` where it is not."""
        future: Future[str] = Future()
        future.set_running_or_notify_cancel()  # what is on its way cannot be called back
        self._waiting.put(_Item(message, future, time.monotonic() + PUBLISH_TIMEOUT_S))
        return future

    def close(self) -> None:
        """After all that was begun."""
        self._waiting.put(None)
        self._thread.join(PUBLISH_TIMEOUT_S)

    def _run(self) -> None:
        batch: list[_Item] = []
        for item in iter(self._waiting.get, None):
            # What goes through an exchange goes alone: the broker ends the channel for one
            # that does not exist, and the fate of its neighbours would be open.
            if item.message.exchange:
                self._flush(batch)
            batch.append(item)
            if item.message.exchange or len(batch) >= BATCH_MAX or self._waiting.empty():
                self._flush(batch)
        self._flush(batch)
        self._store.close()

    def _flush(self, batch: list[_Item]) -> None:
        if not batch:
            return
        failure: Exception = PublishError("not proven to be stored")
        try:
            left = max(0.0, batch[0].due - time.monotonic())
            self._store.send([item.message for item in batch], left)
        except Exception as error:  # whatever it is, whoever waits is to hear of it
            failure = error
        for message, future, _ in batch:
            if message.outcome == "":
                future.set_result(MessageId(message.id))
            elif message.outcome:
                future.set_exception(PublishError(f"{message.routing_key}: {message.outcome}"))
            else:
                future.set_exception(failure)
        batch.clear()


def open_publisher(kind: str, settings: str) -> PublisherThread:
    """The publisher of a connection, in its thread. Raises `ConfigurationError` without one."""
    return PublisherThread(connector_of(kind).load("publisher")(settings))
