"""What `make run` shows: 10,000 words put into a queue, indexed in bulks, and every one found."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from actors import AMQPConnection, App, Message, Publisher, log
from actors.api.connections import parse_connection
from actors.api.state_dir import state_dir
from actors.cli import invoke
from actors.errors import ConfigurationError, Exit
from actors.log import redact
from actors.plan.build import build_plan
from actors.plan.load import load
from actors.plan.settings import Settings
from handlers import words

PLACE = Path(__file__).resolve().parent.parent / ".callboard"
BATCH = 1000  #: messages in one put

app = App()
(route,) = words.app.routes.values()


@app.route(route.queues, options=route.options)  # of the vhost that the connection names
class IndexAndNote(words.IndexWords):
    """The job of `handlers.words`, with a note of when each bulk was handled."""

    NOTE = struct.Struct("=dd")  #: began, ended

    def handle(self, messages: list[Message[words.Word | str]]) -> None:
        began = time.time()
        super().handle(messages)
        with _notes().open("ab", buffering=0) as file:  # whole notes, whoever else writes
            file.write(self.NOTE.pack(began, time.time()))


@click.command("demo")
@click.option("--connection", default="spool:", envvar="CONNECTION", metavar="URL")
@click.option("--count", default=10_000, type=click.IntRange(1), metavar="N")
def demo(connection: str, count: int) -> int:
    """Index N words through the real actors, on the spool or on RabbitMQ."""
    from actors.ops import system

    with _fresh_place():
        log.configure("WARNING")
        (queue,) = route.queues
        _prepare(connection, queue)
        _put(connection, queue, count)
        settings = Settings(connections=(connection,), burst=True, name="demo")
        plan = build_plan(
            load("handlers.demo:app", str(PLACE.parent)), settings, "handlers.demo:app"
        )
        with _progress("index", count) as show:
            code = system.run(
                plan, name=plan.name, on_status=lambda report: show(report["totals"]["acked"])
            )
            lost = _lost(count)
            show(count - lost)
        _summarize(count, lost)
    return code or (Exit.WORK_LEFT if lost else Exit.CLEAN)


@contextmanager
def _fresh_place() -> Iterator[None]:
    """A spool and an index of our own, emptied; they stay until the next run, to be looked at."""
    PLACE.mkdir(exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"{PLACE}: is in use by another run") from None
        own = PLACE / "state"
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        os.environ |= {
            "CALLBOARD_STATE_DIR": str(own),
            "CALLBOARD_RUNTIME_DIR": str(own / "run"),  # another checkout may run its own
            "WORDS_INDEX": str(own / "words.db"),
        }
        yield


def _prepare(connection: str, queue: str) -> None:
    """On RabbitMQ, have the queue, and tell of what is there that is not ours."""
    parsed = parse_connection(connection)
    if not isinstance(parsed, AMQPConnection):
        return
    from actors.connectors.rabbitmq.admin import BrokerAdmin  # loads pika

    admin = BrokerAdmin(parsed.as_json(parsed.vhost, {}))
    messages, consumers = admin.declare(queue)
    if messages:
        click.echo(f"{queue} holds {messages:,} messages already: they are handled too")
    if consumers:
        click.echo(f"{queue} has {consumers:,} other consumers: what they take is missed here")


def _put(connection: str, queue: str, count: int) -> None:
    bodies = [
        words.Word(id=number, word=word).model_dump_json().encode()
        for number, word in enumerate(words.words(count), 1)
    ]
    click.echo(f"{count:,} words for {queue} on {redact(connection)}")
    with Publisher(connection) as publisher, _progress("put", count) as show:
        for start in range(0, count, BATCH):
            publisher.put_many(queue, bodies[start : start + BATCH])
            show(min(start + BATCH, count))


def _lost(count: int) -> int:
    """How many of the words the index does not find."""
    index = words.open_index()
    try:
        return sum(word not in index.search(word, 1) for word in words.words(count))
    finally:
        index.close()


def _summarize(count: int, lost: int) -> None:
    data = _notes().read_bytes() if _notes().exists() else b""
    notes = list(IndexAndNote.NOTE.iter_unpack(data))
    seconds = max((end for _, end in notes), default=0) - min(
        (begin for begin, _ in notes), default=0
    )
    rate = (count - lost) / seconds if seconds else 0
    click.echo(f"{count:,} words · {len(notes):,} bulks · {rate:,.0f} words/s · lost {lost:,}")
    word = list(words.words(count))[count // 2]
    click.echo(f"search {word!r}: {', '.join(words.search(word)) or 'not found'}")


@contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[int], Any]]:
    """Takes how much is done: a bar on a terminal, elsewhere a line when it ends."""
    done = 0
    terminal = sys.stdout.isatty()
    # Without a terminal click would print the label alone.
    with click.progressbar(length=length, label=f"{label:<5}", hidden=not terminal) as bar:

        def show(now: int) -> None:
            nonlocal done
            now = min(max(now, done), length)
            bar.update(now - done)
            done = now

        yield show
    if not terminal:
        click.echo(f"{label}: {done:,} of {length:,}")


def _notes() -> Path:
    return state_dir() / "bulks"


if __name__ == "__main__":
    sys.exit(invoke(sys.argv[1:], demo))
