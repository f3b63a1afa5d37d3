"""Indexes words for full-text search, in bulks.

A message is `{"id": 1, "word": "…"}`, or a string alone. The index is an SQLite file,
`WORDS_INDEX` or `words.db` in the state directory; with `ELASTICSEARCH_URL` set it is the
index `words` there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, Field

from actors import App, HandlerActor, Message, Options
from actors.api.state_dir import state_dir
from handlers.index import ElasticsearchIndex, Entry, Index, SQLiteIndex, id_of

app = App()


class Word(BaseModel):
    """What a message says; anything else is dead-lettered before the handler is called."""

    id: int = Field(ge=0, lt=2**63)
    word: str = Field(min_length=1)


@app.route(
    ["words_to_index"],
    vhost="/",
    options={Options.BULK_SIZE: 256, Options.BULK_FLUSH_INTERVAL: 1.0},
)
class IndexWords(HandlerActor):
    """One open index in each process. A word that comes twice replaces itself."""

    index: Index

    def on_start(self) -> None:
        self.index = open_index()

    def handle(self, messages: list[Message[Word | str]]) -> None:
        failures = self.index.add([entry_of(message.body) for message in messages])
        for position, failure in failures.items():
            message = messages[position]
            if failure.passing:
                message.reject(delay=2.0 ** min(message.attempts, 6), reason=failure.reason)
            else:
                message.dead_letter(failure.reason)

    def on_stop(self) -> None:
        self.index.close()


def entry_of(body: Word | str) -> Entry:
    if isinstance(body, str):
        return Entry(id_of(body), body)
    return Entry(body.id, body.word)


def open_index() -> Index:
    """The index that the environment names."""
    if url := os.environ.get("ELASTICSEARCH_URL"):
        return ElasticsearchIndex(url)
    return SQLiteIndex(Path(os.environ.get("WORDS_INDEX") or state_dir() / "words.db"))


def search(word: str, limit: int = 10) -> list[str]:
    """Indexed words that match, the best first."""
    index = open_index()
    try:
        return index.search(word, limit)
    finally:
        index.close()


_SYLLABLES = [onset + vowel for onset in "bdfgklmnprstvz" for vowel in "aeiou"]
_SHORT_WORDS = len(_SYLLABLES) ** 3
_STRIDE = 100_003  # shares no factor with 70: its multiples visit every short word once


def words(count: int) -> Iterator[str]:
    """So many distinct words that can be pronounced, the same ones every time."""
    for number in range(count):
        beyond, short = divmod(number, _SHORT_WORDS)
        yield _spelled(short * _STRIDE % _SHORT_WORDS, 3) + _spelled(beyond, 0)


def _spelled(number: int, least: int) -> str:
    """A number with syllables for digits, at least so many of them."""
    syllables: list[str] = []
    while number or len(syllables) < least:
        number, digit = divmod(number, len(_SYLLABLES))
        syllables.append(_SYLLABLES[digit])
    return "".join(syllables)
