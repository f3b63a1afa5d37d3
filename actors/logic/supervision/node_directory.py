"""The hosts that have joined, as the leader knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actors.logic.supervision.children import actor_status
from actors.logic.supervision.remote_node import LOST_AFTER_S

#: Seconds without a word of a host after which its status says so.
SILENT = 5.0


@dataclass(slots=True)
class NodeEntry:
    """One host, from its first word until it is lost or has left."""

    host: str
    supervisor: str  #: the name of its host supervisor
    heard: float = 0.0
    pid: int = 0
    state: str = "running"
    refused: str = ""  #: why no pipeline may have handlers on it
    leave: bool = False  #: it is to be drained


class NodeDirectory:
    """The nodes that have joined; of two of one name the first."""

    def __init__(self, host: str, app: str, version: str) -> None:
        self._host, self._app, self._version = host, app, version  # the leader's own
        self._nodes: dict[str, NodeEntry] = {}  # by supervisor

    def on_report(
        self, supervisor: str, host: str, app: str, version: str, pid: int, state: str, now: float
    ) -> NodeEntry:
        """A host says how it is, and is taken in or refused."""
        self._forget(now)
        node = self._nodes.setdefault(supervisor, NodeEntry(host, supervisor))
        node.heard, node.pid, node.state = now, pid, state
        node.refused = self._objection(node, app, version)
        if state == "stopped":
            del self._nodes[supervisor]
        return node

    def drain(self, host: str) -> bool:
        """Have a host leave; whether there is one of this name."""
        found = [node for node in self._nodes.values() if node.host == host]
        for node in found:
            node.leave = True
        return bool(found)

    def names(self) -> list[str]:
        return [self._host, *sorted({node.host for node in self._nodes.values()})]

    def status(self, now: float) -> list[dict[str, Any]]:
        """As `callboard status --json` shows them."""
        self._forget(now)
        return [_status(node, now) for node in self._nodes.values()]

    def _forget(self, now: float) -> None:
        living = {name: m for name, m in self._nodes.items() if now - m.heard < LOST_AFTER_S}
        self._nodes = living

    def _objection(self, node: NodeEntry, app: str, version: str) -> str:
        if app != self._app:
            return f"it runs {app}, and the leader {self._app}"
        if version != self._version:
            return f"its version of the app is {version!r}, and the leader's {self._version!r}"
        namesakes = [other for other in self._nodes.values() if other.host == node.host]
        if node.host == self._host or namesakes[0] is not node:
            return f"a host named {node.host} is here already"
        return ""


def _status(node: NodeEntry, now: float) -> dict[str, Any]:
    silence = now - node.heard
    reason = f"nothing heard of it for {silence:.0f} s" if silence >= SILENT else node.refused
    state = "waiting" if reason else node.state
    return actor_status("host", node.host, node.host, state, pid=node.pid, reason=reason)
