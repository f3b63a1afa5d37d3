"""Two search indexes with one face: an SQLite file, and Elasticsearch."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, Protocol

#: Seconds that a process waits for the others that write to the same file.
BUSY_SECONDS = 30.0

#: Answers of Elasticsearch that say: not now. All others below 500 say: not this document.
PASSING = (408, 429)


class Entry(NamedTuple):
    id: int
    word: str


class Failure(NamedTuple):
    """Why one entry was not taken."""

    passing: bool  #: it may be taken later
    reason: str


class Index(Protocol):
    def add(self, entries: list[Entry]) -> dict[int, Failure]:
        """Store entries, each in place of what had its id; returns failures by position.

        Raises where none was taken.
        """

    def search(self, word: str, limit: int) -> list[str]:
        """Indexed words that match, the best first."""

    def close(self) -> None: ...


class SQLiteIndex:
    """Full-text search in one file, which any number of processes of a host may write to."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(word)")

    def add(self, entries: list[Entry]) -> dict[int, Failure]:
        # Writing from the start: a reader that turns writer does not wait, it fails.
        self._database.execute("BEGIN IMMEDIATE")
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO words (rowid, word) VALUES (?, ?)", entries
            )
        return {}

    def search(self, word: str, limit: int) -> list[str]:
        # A string to FTS5, none of its operators; a zero byte would end the query.
        phrase = '"' + word.replace('"', '""').replace("\0", " ") + '"'
        rows = self._database.execute(
            "SELECT word FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (phrase, limit)
        )
        with closing(rows):
            return [word for (word,) in rows]

    def close(self) -> None:
        self._database.close()


class ElasticsearchIndex:
    """The index `words` of an Elasticsearch, `http://user:password@host:9200`."""

    def __init__(self, url: str) -> None:
        import httpx  # 10 MB that the embedded index does without

        # Errors show the URL that was asked: the password travels beside it.
        given = httpx.URL(url)
        auth = (given.username, given.password) if given.userinfo else None
        base = given.copy_with(userinfo=b"")
        self._http = httpx.Client(base_url=base, auth=auth, timeout=BUSY_SECONDS)

    def add(self, entries: list[Entry]) -> dict[int, Failure]:
        lines: list[dict[str, Any]] = []
        for id, word in entries:
            lines += [{"index": {"_id": str(id)}}, {"word": word}]
        answer = self._ask("/words/_bulk", "".join(json.dumps(line) + "\n" for line in lines))
        if not answer["errors"]:
            return {}
        results = [item["index"] for item in answer["items"]]
        if len(results) != len(entries):
            raise ValueError(f"{len(entries)} words were sent, and {len(results)} answered")
        return {i: _failure(r) for i, r in enumerate(results) if r["status"] >= 300}

    def search(self, word: str, limit: int) -> list[str]:
        self._ask("/words/_refresh", "")  # what was just added is found a second later otherwise
        query = {"query": {"match": {"word": word}}, "size": limit}
        hits = self._ask("/words/_search", json.dumps(query))["hits"]["hits"]
        return [hit["_source"]["word"] for hit in hits]

    def close(self) -> None:
        self._http.close()

    def _ask(self, path: str, content: str) -> Any:
        kind = "application/x-ndjson" if path.endswith("_bulk") else "application/json"
        response = self._http.post(path, content=content, headers={"Content-Type": kind})
        return response.raise_for_status().json()


def _failure(result: dict[str, Any]) -> Failure:
    status, error = result["status"], result.get("error") or {}
    reason = f"{error.get('type', status)}: {error.get('reason', 'no reason given')}"
    return Failure(status >= 500 or status in PASSING, reason)


def id_of(word: str) -> int:
    """An id for a word that came without one, the same each time."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big") >> 1
