"""`callboard publish`: one message a line, each batch confirmed before the next is read."""

from __future__ import annotations

import codecs
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, BinaryIO

import click

from actors.api.message import decode_json
from actors.cli.connections import only
from actors.cli.flags import CONNECTION
from actors.cli.output import say
from actors.cli.values import Number, QueueName, Whole
from actors.errors import InvalidMessage, PublishError
from actors.logic.messages.entry import MAX_DELAY, check_size
from actors.logic.messages.records import MAX_PRIORITY
from actors.publisher import Publisher

READ_SIZE = 64 * 1024  #: bytes; what one read brings is one batch


@click.command(short_help="Put lines into a queue, one message a line.")
@click.argument("queue", type=QueueName())
@click.argument("file", type=click.File("rb"), default="-")
@CONNECTION
@click.option("--json", "form", flag_value="json", default="json", help="Lines are JSON (default).")
@click.option("--text", "form", flag_value="text", help="Lines are text, sent as JSON strings.")
@click.option("--raw", "form", flag_value="raw", help="Lines are sent byte for byte.")
@click.option("--delay", type=Number(0, MAX_DELAY), default=0.0, metavar="SECONDS",
              help="Not to be handled before.")  # fmt: skip
@click.option("--priority", type=Whole(0, MAX_PRIORITY), default=0, metavar="N",
              help="Higher first.")  # fmt: skip
def publish(
    queue: str, file: BinaryIO, connection: tuple[str, ...], form: str, delay: float, priority: int
) -> None:
    """Put the lines of FILE, or of standard input, into QUEUE, one message a line.

    What was put is stored and confirmed when this ends. Where it ends early, it tells of how
    many messages that is true: 75 where one could not be stored, 1 for a line that is none.
    Blank lines are no messages. Lines are UTF-8, but with --raw, and a byte order mark before the
    first belongs to none.
    """
    began = time.monotonic()
    confirmed = 0
    url, _ = only(connection, lambda connector: connector.publisher)
    with Publisher(url) as publisher, _progress(file) as advance:
        for first, lines, size in _reads(file):
            if first == 1 and form != "raw":
                lines[:1] = [_unmarked(line) for line in lines[:1]]
            batch, broken = _encoded(lines, first, _FORMS[form])
            try:
                publisher.put_many(queue, batch, delay=delay, priority=priority)
            except PublishError as error:
                raise PublishError(f"{error}; {_count(confirmed)} confirmed before") from error
            confirmed += len(batch)
            if broken:
                raise InvalidMessage(f"{broken}; {_count(confirmed)} confirmed before")
            advance(size)
    say(f"{_count(confirmed)} put into {queue} in {time.monotonic() - began:.1f} s")


def _json(line: bytes) -> bytes:
    line.decode()
    decode_json(line)  # as whoever receives it will
    return line


def _text(line: bytes) -> bytes:
    return json.dumps(line.decode()).encode()


def _raw(line: bytes) -> bytes:
    return line


_FORMS: dict[str, Callable[[bytes], bytes]] = {"json": _json, "text": _text, "raw": _raw}


def _reads(file: BinaryIO) -> Iterator[tuple[int, list[bytes], int]]:
    """Number of the first line, lines, and size of each read: a slow writer is not waited for."""
    first, rest, data = 1, b"", b" "
    while data:
        data = os.read(file.fileno(), READ_SIZE)
        *lines, rest = (rest + data).split(b"\n")
        if not data and rest:
            lines = [rest]
        yield first, lines, len(data)
        first += len(lines)


def _unmarked(line: bytes) -> bytes:
    """The first line of a file without the mark of its encoding. Raises `InvalidMessage`."""
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        raise InvalidMessage("the file is UTF-16 or UTF-32: make it UTF-8, or send it with --raw")
    return line.removeprefix(codecs.BOM_UTF8)


def _encoded(
    lines: list[bytes], first: int, form: Callable[[bytes], bytes]
) -> tuple[list[bytes], str]:
    """Messages, and what is wrong with the line that ends them, if one does."""
    batch = []
    for number, line in enumerate(lines, first):
        try:
            if line.strip():
                body = form(line.removesuffix(b"\r"))
                check_size(len(body))
                batch.append(body)
        except ValueError as error:
            return batch, f"line {number:,} cannot be sent: {error}"
    return batch, ""


def _progress(file: BinaryIO) -> AbstractContextManager[Callable[[int], Any]]:
    """A bar on a terminal, where the end is known."""
    about = os.fstat(file.fileno())
    if not sys.stderr.isatty() or not stat.S_ISREG(about.st_mode):
        return nullcontext(lambda size: None)
    return _bar(about.st_size)


@contextmanager
def _bar(length: int) -> Iterator[Callable[[int], Any]]:
    with click.progressbar(length=length, file=sys.stderr, show_pos=False) as bar:
        yield bar.update


def _count(number: int) -> str:
    return f"{number:,} message{'' if number == 1 else 's'}"
