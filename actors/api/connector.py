"""The connector: a kind of connection, with all that the rest of Callboard knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from actors.errors import ConfigurationError

#: The package that registers the connectors of Callboard itself, imported at the first look.
BUILT_IN = "actors.connectors"

#: The words for a part that a connector does without.
LACKS = {
    "publisher": "takes no messages",
    "admin": "keeps no dead letters",
    "lock": "has no lock",
    "jobs": "keeps no jobs",
    "calls": "takes no calls",
    "topics": "has no topics",
}

_connectors: dict[str, Connector] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """One kind of connection.

    What it consists of is named as "module:name" and imported when it is first needed: who
    publishes to a spool loads no client of a broker.
    """

    kind: str  #: its name in plans, logs and metrics
    schemes: tuple[str, ...]  #: of its URLs
    connection: str  #: class of `actors.api.connections.Connection`, what a user declares
    message: str  #: class of `actors.Message`, what a handler receives
    client: str  #: makes an `actors.roles.port.ConnectionClient` of a pipeline's plan
    publisher: str = ""  #: makes a publisher of settings; empty: it takes no messages
    admin: str = ""  #: makes what `callboard dead` works with of settings; empty: it has none
    jobs: str = ""  #: makes an `actors.logic.jobs.store.JobStore` of settings; empty: it has none
    #: Makes an `actors.tasks.client.JobClient` of settings, where it keeps no jobs and callers wait
    #: for replies; empty: it has none.
    calls: str = ""
    topics: str = ""  #: makes an `actors.tasks.topics.TopicClient` of settings; empty: it has none
    lock: str = ""  #: makes a lock of all replicas of settings and a name; empty: it has none

    #: Deliveries travel as AMQP frames, and the queue counts none; otherwise as records, counted.
    frames: bool = False
    #: It has vhosts, exchanges, and queues that a route may declare.
    broker: bool = False
    #: A body that is not JSON is a text.
    plain_text: bool = False
    #: A file of this host: its URLs need no "//".
    local: bool = False
    #: It knows at no cost how many messages wait.
    counts_waiting: bool = False

    @property
    def takes_jobs(self) -> bool:
        """Whether tasks may stand on it."""
        return bool(self.jobs or self.calls)

    def load(self, part: str) -> Any:
        """The object behind one of the names: `load("client")`.

        Raises `ConfigurationError` where a connector has no such part.
        """
        path = getattr(self, part)
        if not path:
            raise ConfigurationError(f"a connection of kind {self.kind} {LACKS[part]}")
        return resolve(path)


def register(connector: Connector) -> None:
    """Make a connector known. Of two of one kind the later one counts."""
    _connectors[connector.kind] = connector


def connectors() -> tuple[Connector, ...]:
    """All that are registered, those of Callboard first."""
    import_module(BUILT_IN)
    return tuple(_connectors.values())


def connector_of(kind: str) -> Connector:
    """The connector of a kind. Raises `ConfigurationError` where there is none."""
    for connector in connectors():
        if connector.kind == kind:
            return connector
    raise ConfigurationError(f"there is no connector of kind {kind!r}")


def connector_for(scheme: str) -> Connector | None:
    """The connector whose URLs have this scheme."""
    return next((one for one in connectors() if scheme in one.schemes), None)


def resolve(path: str) -> Any:
    """The object that "module:name" stands for."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
