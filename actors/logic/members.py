"""The hosts that have joined, as the leader knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from actors.logic.children import actor_status
from actors.logic.guests import LOST

#: Seconds without a word of a host after which its status says so.
SILENT = 5.0


@dataclass(slots=True)
class Member:
    """One host, from its first word until it is lost or has left."""

    host: str
    supervisor: str  #: the name of its host supervisor
    heard: float = 0.0
    pid: int = 0
    state: str = "running"
    refused: str = ""  #: why no unit may have handlers on it
    leave: bool = False  #: it is to be drained


class Members:
    """Who is there; of two hosts of one name the first."""

    def __init__(self, host: str, app: str, version: str) -> None:
        self._host, self._app, self._version = host, app, version  # the leader's own
        self._members: dict[str, Member] = {}  # by supervisor

    def hear(
        self, supervisor: str, host: str, app: str, version: str, pid: int, state: str, now: float
    ) -> Member:
        """A host says how it is, and is taken in or refused."""
        self._forget(now)
        member = self._members.setdefault(supervisor, Member(host, supervisor))
        member.heard, member.pid, member.state = now, pid, state
        member.refused = self._objection(member, app, version)
        if state == "stopped":
            del self._members[supervisor]
        return member

    def drain(self, host: str) -> bool:
        """Have a host leave; whether there is one of this name."""
        found = [member for member in self._members.values() if member.host == host]
        for member in found:
            member.leave = True
        return bool(found)

    def names(self) -> list[str]:
        return [self._host, *sorted({member.host for member in self._members.values()})]

    def status(self, now: float) -> list[dict[str, Any]]:
        """As `callboard status --json` shows them."""
        self._forget(now)
        return [_status(member, now) for member in self._members.values()]

    def _forget(self, now: float) -> None:
        living = {name: m for name, m in self._members.items() if now - m.heard < LOST}
        self._members = living

    def _objection(self, member: Member, app: str, version: str) -> str:
        if app != self._app:
            return f"it runs {app}, and the leader {self._app}"
        if version != self._version:
            return f"its version of the app is {version!r}, and the leader's {self._version!r}"
        namesakes = [other for other in self._members.values() if other.host == member.host]
        if member.host == self._host or namesakes[0] is not member:
            return f"a host named {member.host} is here already"
        return ""


def _status(member: Member, now: float) -> dict[str, Any]:
    silence = now - member.heard
    reason = f"nothing heard of it for {silence:.0f} s" if silence >= SILENT else member.refused
    state = "waiting" if reason else member.state
    return actor_status("host", member.host, member.host, state, pid=member.pid, reason=reason)
