"""The administration of a spool from outside: look, purge, redrive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from actors.connectors.spool import jobs
from actors.connectors.spool.file import SpoolFile
from actors.connectors.spool.schema import CLAIMED, DEAD, DELAYED, KEPT, READY
from actors.errors import ConfigurationError

_LAST = 253402214400  #: the last day of the year 9999, as a wall clock
_IDS = "SELECT id FROM message LEFT JOIN content USING (seq) WHERE seq IN ({})"

_STATES = {READY: "ready", DELAYED: "delayed", CLAIMED: "claimed", DEAD: "dead", KEPT: "canceled"}


@dataclass(frozen=True, slots=True)
class QueueCount:
    """One queue of a spool, in numbers."""

    queue: str
    ready: int
    delayed: int
    claimed: int
    dead: int
    oldest: float | None  #: wall clock, of the oldest message that is not dead


@dataclass(frozen=True, slots=True)
class Stored:
    """One message of a spool, for people."""

    id: str
    queue: str
    state: str  #: "ready", "delayed", "claimed" or "dead"
    priority: int
    attempts: int  #: hand-outs so far
    enqueued: float  #: wall clock, seconds, as are all times here
    headers: dict[str, Any]
    body: bytes
    not_before: float | None = None  #: of a delayed one
    died: float | None = None  #: of a dead one, as are the following
    reason: str = ""
    error: str = ""  #: class of the exception, qualified
    route: str = ""


#: One error, as dead letters name it, and as they did before.
INVALID = ("InvalidMessage", "UndecodableMessageException")


class DeadFilter(NamedTuple):
    """A choice of a queue's dead letters; without a limit of any kind, all of them."""

    ids: Sequence[str] = ()
    error: str = ""  #: class of the exception, qualified or its last part
    before: float | None = None  #: died before this time, wall clock
    limit: int | None = None  #: so many, the oldest deaths first

    @property
    def errors(self) -> list[str]:
        """The names that dead letters may have for `error`."""
        module, dot, name = self.error.rpartition(".")
        return [f"{module}{dot}{one}" for one in (INVALID if name in INVALID else (name,))]

    def query(self, queue: str) -> tuple[str, dict[str, Any]]:
        """A query for their rows, and its values."""
        wanted = [f"queue = :queue AND state = {DEAD}"]
        if self.ids:
            wanted.append("id IN (SELECT value FROM json_each(:ids))")
        if self.error:
            # The last part of a qualified name: what follows its last dot.
            wanted.append(
                "EXISTS (SELECT 1 FROM json_each(:errors) WHERE error = value"
                " OR substr(error, -length(value) - 1) = '.' || value)"
            )
        if self.before is not None:
            wanted.append("died < :before")
        values = {
            "queue": queue,
            "ids": json.dumps(list(self.ids)),
            "errors": json.dumps(self.errors),
            "before": self.before,
            "limit": -1 if self.limit is None else self.limit,
        }
        return (
            f"SELECT seq FROM message LEFT JOIN content USING (seq) WHERE {' AND '.join(wanted)}"
            " ORDER BY died, seq LIMIT :limit",
            values,
        )


ALL = DeadFilter()


class SpoolAdmin:
    """Looks into a spool and sets it right. Every method may raise as `SpoolFile` does."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file

    def queues(self) -> list[QueueCount]:
        """All queues that hold something, by name."""
        with self._file.reading() as at:
            rows = at.execute(
                f"SELECT queue, sum(state = {READY}), sum(state = {DELAYED}),"
                f" sum(state = {CLAIMED}), sum(state = {DEAD}),"
                f" min(CASE WHEN state NOT IN ({DEAD}, {KEPT}) AND enqueued BETWEEN 0 AND {_LAST}"
                " THEN enqueued END)"
                " FROM message LEFT JOIN content USING (seq) GROUP BY queue ORDER BY queue"
            ).fetchall()
        return [QueueCount(_text(queue), *numbers) for queue, *numbers in rows]

    def show(self, queue: str, limit: int = 100) -> list[Stored]:
        """Messages that are not dead, in the order of their hand-out."""
        query = (
            f"SELECT seq FROM message WHERE queue = :queue AND state NOT IN ({DEAD}, {KEPT})"
            f" ORDER BY state = {DELAYED}, priority DESC, not_before, seq LIMIT :limit"
        )
        return self._show(query, {"queue": queue, "limit": limit})

    def purge(self, queue: str) -> int:
        """Delete what is ready or delayed; what is in hand and the dead stay. Returns how many."""
        with self._file.transaction() as at:
            jobs.cancel_all(at, queue)
            return at.execute(
                f"DELETE FROM message WHERE queue = ? AND state IN ({READY}, {DELAYED})", (queue,)
            ).rowcount

    def dead(self, queue: str, which: DeadFilter = ALL) -> list[Stored]:
        """Dead letters, the oldest deaths first."""
        return self._show(*which.query(queue))

    def redrive(
        self, queue: str, which: DeadFilter = ALL, *, to: str = "", dry_run: bool = False
    ) -> list[str]:
        """Make dead letters ready again, attempts from 0, in `to` or their queue; returns ids."""
        query, values = which.query(queue)
        with self._file.transaction() as at:
            ids = _ids(at.execute(_IDS.format(query), values))
            if not dry_run:
                jobs.redrive_all(at, query, values, to)
                at.execute(
                    f"UPDATE message SET state = {READY}, queue = :to, attempts = 0,"
                    " not_before = 0, died = NULL, reason = NULL, error = NULL, route = NULL"
                    f" WHERE seq IN ({query})",
                    {**values, "to": to or queue},
                )
        if ids and not dry_run:
            self._file.wake()
        return ids

    def purge_dead(
        self, queue: str, which: DeadFilter = ALL, *, dry_run: bool = False
    ) -> list[str]:
        """Delete dead letters for good; returns their ids."""
        query, values = which.query(queue)
        with self._file.transaction() as at:
            ids = _ids(at.execute(_IDS.format(query), values))
            if not dry_run:
                at.execute(f"DELETE FROM message WHERE seq IN ({query})", values)
        return ids

    def _show(self, query: str, values: dict[str, Any]) -> list[Stored]:
        with self._file.reading() as at:
            rows = at.execute(
                "SELECT id, queue, state, priority, attempts, enqueued, headers, body,"
                " not_before, died, reason, error, route"
                f" FROM ({query}) JOIN message USING (seq) LEFT JOIN content USING (seq)",
                values,
            ).fetchall()
        return [_stored(row) for row in rows]


def _ids(rows: Any) -> list[str]:
    return [_text(id) for (id,) in rows]


def _headers(encoded: Any) -> dict[str, Any]:
    """Headers for people to see; none where they are no JSON."""
    try:
        headers = json.loads(_bytes(encoded) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return headers if isinstance(headers, dict) else {}


def _stored(row: tuple[Any, ...]) -> Stored:
    """A row as people are shown it; of whatever types, for a hand may have written it."""
    id, queue, state, priority, attempts, enqueued, headers, body, not_before, *death = row
    died, reason, error, route = death
    return Stored(
        id=_text(id), queue=_text(queue), state=_STATES.get(state, "unreadable"),
        priority=_whole(priority), attempts=_whole(attempts),
        enqueued=_time(enqueued) or 0.0, headers=_headers(headers), body=_bytes(body),
        not_before=_time(not_before) if state == DELAYED else None,
        died=_time(died), reason=_text(reason), error=_text(error), route=_text(route),
    )  # fmt: skip


def _bytes(value: Any) -> bytes:
    if value is None:
        return b""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _bytes(value).decode("utf-8", "backslashreplace")


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _time(value: Any) -> float | None:
    """Seconds that a calendar has a date for."""
    return value if isinstance(value, int | float) and 0 <= value <= _LAST else None


def open_admin(settings: str) -> SpoolAdmin:
    """The admin of the spool that these settings name.

    Raises `ConfigurationError` where the file is missing: to look is not to make one.
    """
    file = Path(json.loads(settings)["path"])
    if not file.exists():
        raise ConfigurationError(
            f"connection spool://{file}: there is no such file; the first message that is put"
            " makes it"
        )
    return SpoolAdmin(SpoolFile(file))
