"""Topics: events for whoever listens, in web processes for example."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, Self

from actors.api.connector import connector_of
from actors.errors import InvalidArguments, NotSupported
from actors.logic.jobs.store import check_id
from actors.logic.topics import TopicEvent
from actors.tasks.places import Places, place_of

if TYPE_CHECKING:
    from actors.api.app import App

#: Events that wait for one listener; of more the oldest are dropped.
WAITING_MAX = 1000

Deliver = Callable[[TopicEvent], None]


class TopicClient(Protocol):
    """The topics of one connection, with and without an event loop."""

    pid: int  #: of the process whose threads it has

    async def publish(self, topic: str, body: bytes) -> str:
        """Publishes an event and returns its id."""

    def publish_sync(self, topic: str, body: bytes) -> str:
        """The same where there is no `await`."""

    async def listen(self, topic: str, since: str | None, deliver: Deliver) -> Callable[[], None]:
        """Calls `deliver`, from any thread, with what came after the event of an id and with
        whatever comes; returns what ends that."""

    def listen_sync(self, topic: str, since: str | None, deliver: Deliver) -> Callable[[], None]:
        """The same where there is no `await`."""

    def close(self) -> None:
        """Lets go of the connection."""


class Topic:
    """A named stream of events, for whoever listens at the time: `app.topic("news")`.

    An event reaches each listener at most once, in the order of its publishers. Each process that
    has listened keeps the last 100 events of the last 60 s: who names the last event that it saw,
    `since`, misses nothing between two subscriptions.
    """

    def __init__(self, topics: Topics, name: str, connection: str = "") -> None:
        self.name = check_id(name)
        self._topics = topics
        self._connection = connection

    async def publish(self, data: Any) -> str:
        """Publishes a JSON value and returns the id of the event, once the broker has it.

        Raises `InvalidArguments` where it is no JSON, `PublishError`.
        """
        return await self._client.publish(self.name, _encoded(self.name, data))

    def publish_sync(self, data: Any) -> str:
        """`publish` where there is no `await`."""
        return self._client.publish_sync(self.name, _encoded(self.name, data))

    def subscribe(self, since: str | None = None) -> Subscription:
        """The events from now on, or after the one of an id:

            async with news.subscribe(since=last) as events:
                event = await asyncio.wait_for(anext(events), 25)

        Of an id that is not known (any more), all that the window holds. Raises
        `UnreachableError`.
        """
        return Subscription(self._client, self.name, since)

    @contextlib.contextmanager
    def subscribe_sync(
        self, since: str | None = None, wait: float = 25.0
    ) -> Iterator[Iterator[TopicEvent]]:
        """`subscribe` where there is no `await`: ends after `wait` seconds without an event."""
        waiting: queue.Queue[TopicEvent] = queue.Queue(WAITING_MAX)

        def deliver(event: TopicEvent) -> None:
            while True:
                try:
                    waiting.put_nowait(event)
                    return
                except queue.Full:
                    with contextlib.suppress(queue.Empty):
                        waiting.get_nowait()

        def events() -> Iterator[TopicEvent]:
            with contextlib.suppress(queue.Empty):
                while True:
                    yield waiting.get(timeout=wait)

        stop = self._client.listen_sync(self.name, since, deliver)
        try:
            yield events()
        finally:
            stop()

    @property
    def _client(self) -> TopicClient:
        return self._topics.client(self._connection)

    def __repr__(self) -> str:
        return f"<Topic {self.name}>"


class Subscription:
    """The events of a topic for one listener, as an asynchronous iterator."""

    def __init__(self, client: TopicClient, topic: str, since: str | None) -> None:
        self._client = client
        self._topic = topic
        self._since = since
        self._waiting: asyncio.Queue[TopicEvent]
        self._stop: Callable[[], None] = _nothing

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._waiting = asyncio.Queue()

        def deliver(event: TopicEvent) -> None:
            with contextlib.suppress(RuntimeError):  # the loop of a listener is closed
                loop.call_soon_threadsafe(self._put, event)

        self._stop = await self._client.listen(self._topic, self._since, deliver)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()

    def __aiter__(self) -> AsyncIterator[TopicEvent]:
        return self

    async def __anext__(self) -> TopicEvent:
        return await self._waiting.get()

    def _put(self, event: TopicEvent) -> None:
        if self._waiting.qsize() >= WAITING_MAX:
            self._waiting.get_nowait()
        self._waiting.put_nowait(event)


class Topics:
    """The topics of an app's connections; `app.topic` makes one."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.open: OpenTopics = open_topics  #: opens the client of a connection
        self._clients: dict[str, TopicClient] = {}
        self._lock = threading.Lock()

    def client(self, connection: str = "") -> TopicClient:
        """The client of a connection, opened by the first event, in each process anew.

        Raises `InvalidConnection`, and `NotSupported` where it has no topics.
        """
        with self._lock:
            client = self._clients.get(connection)
            if client is None or client.pid != os.getpid():
                kind, settings = place_of(self._app, connection, "events", _have_topics)
                client = self._clients[connection] = self.open(kind, settings)
            return client

    def close(self) -> None:
        """Lets go of what is open; a later event opens it again."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            if client.pid == os.getpid():
                client.close()


def open_topics(kind: str, settings: str) -> TopicClient:
    """The client of a connection. Raises `NotSupported` where it has no topics."""
    connector = connector_of(kind)
    if not connector.topics:
        raise NotSupported(f"a connection of kind {kind} has no topics: amqp: has")
    return connector.load("topics")(settings)  # type: ignore[no-any-return]


#: Opens the client of a connection, by its kind and settings.
OpenTopics = Callable[[str, str], TopicClient]


def _have_topics(places: Places) -> Places:
    return {name: place for name, place in places.items() if connector_of(place[0]).topics}


def _encoded(topic: str, data: Any) -> bytes:
    try:
        return json.dumps(data, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArguments(f"topic {topic}: no JSON: {error}") from None


def _nothing() -> None:
    """Nothing was begun."""
