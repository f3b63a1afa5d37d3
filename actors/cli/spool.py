"""`callboard spool`: what lies in the embedded spool, and how to empty a queue of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

import click

from actors.cli.connections import only
from actors.cli.flags import connection
from actors.cli.output import confirm, say, say_json, table
from actors.cli.values import QueueName, Whole
from actors.connectors.spool.admin import SpoolAdmin, open_admin

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
            say_json({name: getattr(count, name) for name in count.__slots__})
        return
    rows = [
        (count.queue, count.ready, count.delayed, count.claimed, count.dead, moment(count.oldest))
        for count in counts
    ]
    heads = ("queue", "ready", "delayed", "claimed", "dead", "oldest")
    say(*table(heads, rows) or ["the spool is empty"])


@spool.command(short_help="The messages of a queue in the order of their hand-out.")
@click.argument("queue", type=QueueName())
@SPOOL
@click.option("--limit", type=Whole(1), default=100, show_default=True, metavar="N",
              help="At most so many.")  # fmt: skip
def show(queue: str, connection: Sequence[str], limit: int) -> None:
    """The messages of QUEUE in the order in which they would be handed out."""
    for message in open_spool(connection).show(queue, limit):
        body = message.body.decode("utf-8", "backslashreplace")
        say(f"{message.id}  {message.state}  {shortened(body)}")


@spool.command(short_help="Delete the messages of a queue for good.")
@click.argument("queue", type=QueueName())
@SPOOL
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(queue: str, connection: Sequence[str], yes: bool) -> None:
    """Delete the messages of QUEUE for good; those in hand and dead letters stay."""
    admin = open_spool(connection)
    if not yes:
        confirm(f"Delete all messages of {queue} that are in nobody's hand?")
    count = admin.purge(queue)
    say(f"{count:,} message{'' if count == 1 else 's'} deleted from {queue}")


def open_spool(arguments: Sequence[str]) -> SpoolAdmin:
    """The spool that is named, or the one in the state directory."""
    _, connection = only(arguments or ("spool:",), lambda connector: connector.local)
    return open_admin(connection.as_json("", {}))


def moment(seconds: float | None) -> str:
    """A wall-clock time as people read it."""
    time = at(seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else ""


def at(seconds: float | None, zone: tzinfo | None = None) -> datetime | None:
    """A wall-clock time; None where there is none, or no calendar has it."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, zone)
    except (ValueError, OverflowError, OSError):
        return None


def shortened(text: str, limit: int = 200) -> str:
    """The beginning of a text."""
    return text if len(text) <= limit else text[:limit] + "…"
