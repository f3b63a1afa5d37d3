"""What lies between the model broker and a connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from actors.roles.port import Lost
from tests.simulation.letters import Channel

if TYPE_CHECKING:
    from tests.simulation.amqpclient import BrokerClient
    from tests.simulation.broker import Broker

#: Seconds after which a side gives up that hears nothing.
PATIENCE = (5.0, 30.0)


class Link:
    """A TCP connection: what is said on it arrives in order, late, or not at all."""

    def __init__(self, broker: Broker, client: BrokerClient) -> None:
        self.channels: dict[int, Channel] = {}  #: by epoch, on the broker's side
        self.receipts = client.receipts
        self._broker = broker
        self._client: BrokerClient | None = client
        self._silent = False
        self._up = self._down = 0.0  # when all that was said so far has arrived
        broker.links.append(self)

    def tell(self, call: Callable[[], None]) -> None:
        """From the client to the broker, which does it when it arrives."""
        self._up = self._carry(self._up, partial(self._reach_broker, call))

    def say(self, what: Any) -> None:
        """From the broker to the client."""
        self._down = self._carry(self._down, partial(self._reach_client, what))

    def _carry(self, behind: float, call: Callable[[], None]) -> float:
        broker = self._broker
        when = max(behind, broker.now + broker.lag())
        if when > broker.now:
            broker.at(when, call)
        else:
            call()
        return when

    def _reach_broker(self, call: Callable[[], None]) -> None:
        if not self._silent and self in self._broker.links:
            call()

    def _reach_client(self, what: Any) -> None:
        if not self._silent and self._client:
            self._client.hear(what)

    # ── its end ───────────────────────────────────────────────────────────────

    def reset(self, cause: str) -> None:
        """Both sides know; what was on its way is lost."""
        self._silent = True
        self._broker.drop(self)
        self._lose(cause)

    def hang_up(self) -> None:
        """The broker closes it; the client reads what came before, then the end."""
        self._broker.drop(self)
        self.say(Lost("missed heartbeats from the client"))

    def fall_silent(self) -> None:
        """Half open: nothing arrives and nothing is refused, until each side gives up."""
        broker, random = self._broker, self._broker.random
        self._silent = True
        broker.at(broker.now + random.uniform(*PATIENCE), partial(broker.drop, self))
        lose = partial(self._lose, "missed heartbeats from the broker")
        broker.at(broker.now + random.uniform(*PATIENCE), lose)

    def close(self) -> None:
        """The client has gone; what it wrote still arrives."""
        self._client = None
        if not self._silent:
            self._carry(self._up, partial(self._broker.drop, self))

    def _lose(self, cause: str) -> None:
        client, self._client = self._client, None
        if client:
            client.lose(cause)
