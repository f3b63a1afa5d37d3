"""`callboard spool`: what lies in the embedded spool, and how to empty a queue of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

import click

from actors.cli.connections import only
from actors.cli.flags import connection
from actors.cli.table import table
from actors.cli.values import QueueName, Whole
from actors.clients.spooladmin import SpoolAdmin
from actors.clients.spoolfile import SpoolFile
from actors.connections import SpoolConnection
from actors.errors import ConfigurationError

SPOOL = connection("The spool: spool: or spool:///path.  [default: spool:]")


@click.group()
def spool() -> None:
    """Look into the embedded spool."""


@spool.command("list")
@SPOOL
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_queues(connection: Sequence[str], as_json: bool) -> None:
    """The queues of the spool and what each holds."""
    counts = open_spool(connection).queues()
    if as_json:
        for count in counts:
            click.echo(json.dumps({name: getattr(count, name) for name in count.__slots__}))
        return
    rows = [
        (count.queue, count.ready, count.delayed, count.claimed, count.dead, moment(count.oldest))
        for count in counts
    ]
    heads = ("queue", "ready", "delayed", "claimed", "dead", "oldest")
    click.echo(table(heads, rows) or "the spool is empty")


@spool.command()
@click.argument("queue", type=QueueName())
@SPOOL
@click.option("--limit", type=Whole(1), default=100, show_default=True, metavar="N",
              help="At most so many.")  # fmt: skip
def show(queue: str, connection: Sequence[str], limit: int) -> None:
    """The messages of QUEUE in the order in which they would be handed out."""
    for message in open_spool(connection).show(queue, limit):
        click.echo(f"{message.id}  {message.state}  {preview(message.body)}")


@spool.command()
@click.argument("queue", type=QueueName())
@SPOOL
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(queue: str, connection: Sequence[str], yes: bool) -> None:
    """Delete the messages of QUEUE for good; those in hand and dead letters stay."""
    admin = open_spool(connection)
    if not yes:
        click.confirm(f"Delete all messages of {queue} that are in nobody's hand?", abort=True)
    click.echo(f"{admin.purge(queue):,} messages deleted from {queue}")


def open_spool(arguments: Sequence[str]) -> SpoolAdmin:
    """The spool that is named, or the one in the state directory."""
    _, connection = only(arguments or ("spool:",), ("spool",))
    assert isinstance(connection, SpoolConnection)
    if not connection.file.exists():  # to look is not to make one, least of all at a wrong path
        raise ConfigurationError(
            f"connection spool://{connection.file}: there is no such file; the first message"
            " that is put makes it"
        )
    return SpoolAdmin(SpoolFile(connection.file))


def moment(seconds: float | None) -> str:
    """A wall-clock time as people read it."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def preview(body: bytes, limit: int = 200) -> str:
    """The beginning of a body on one line, safe to print."""
    text = body[:limit].decode("utf-8", "backslashreplace")
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return shown + ("…" if len(body) > limit else "")
