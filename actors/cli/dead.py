"""`callboard dead`: dead letters of RabbitMQ and of the spool, looked at and put right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any, Protocol

import click

from actors.api.connector import connector_of
from actors.cli.connections import only
from actors.cli.flags import CONNECTION, flags
from actors.cli.output import confirm, in_json, say, say_json, table
from actors.cli.spool import at, moment, shortened
from actors.cli.values import Moment, QueueName, Whole
from actors.connectors.spool.admin import ALL, DeadFilter, Stored
from actors.log import redact


class DeadLetters(Protocol):
    """The operations on a queue's dead letters that both connections have."""

    def dead(self, queue: str, which: DeadFilter = ALL) -> list[Stored]: ...

    def redrive(
        self, queue: str, which: DeadFilter = ALL, *, to: str = "", dry_run: bool = False
    ) -> list[str]: ...

    def purge_dead(
        self, queue: str, which: DeadFilter = ALL, *, dry_run: bool = False
    ) -> list[str]: ...


FILTER = flags(
    CONNECTION,
    click.option(
        "--id", "ids", multiple=True, metavar="ID", help="Only this one; may be repeated."
    ),
    click.option(
        "--error",
        metavar="CLASS",
        default="",
        help="Only those that died of this exception: ValueError, or package.module.Class.",
    ),
    click.option(
        "--before",
        type=Moment(),
        metavar="TIME",
        help="Only those that died before, as 2030-01-31 or 2030-01-31T12:00:00; local time.",
    ),
    click.option("--limit", type=Whole(1), metavar="N", help="At most so many, oldest first."),
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.group()
def dead() -> None:
    """Look at dead letters, hand them out again or delete them."""


@dead.command("list")
@click.argument("queue", type=QueueName())
@FILTER
@AS_JSON
def list_letters(queue: str, as_json: bool, **selection: Any) -> None:
    """The dead letters of QUEUE, the oldest first."""
    found = _letters(selection).dead(queue, _which(selection))
    if as_json:
        for letter in found:
            say_json(_summary(letter))
        return
    rows = [
        (letter.id, moment(letter.died), letter.attempts, letter.error, redact(letter.reason))
        for letter in found
    ]
    heads = ("id", "died", "attempts", "error", "reason")
    say(*table(heads, rows, width=160) or [f"no dead letters of {queue}"])


@dead.command()
@click.argument("queue", type=QueueName())
@FILTER
@AS_JSON
def show(queue: str, as_json: bool, **selection: Any) -> None:
    """The dead letters of QUEUE with their headers and bodies."""
    found = _letters(selection).dead(queue, _which(selection))
    if not found and not as_json:
        say(f"no dead letters of {queue}")
    for letter in found:
        whole = _summary(letter) | {
            "headers": letter.headers,
            "body": letter.body.decode("utf-8", "backslashreplace"),
        }
        if as_json:
            say_json(whole)
            continue
        for name, value in whole.items():
            text = value if isinstance(value, str) else in_json(value)
            say(f"{name + ':':<10} {shortened(text, 100_000)}")
        say("")


@dead.command()
@click.argument("queue", type=QueueName())
@FILTER
@click.option("--to", type=QueueName(), default=None, metavar="QUEUE",
              help="Into this queue, not the one of origin.")  # fmt: skip
@DRY_RUN
@AS_JSON
def redrive(queue: str, to: str | None, dry_run: bool, as_json: bool, **selection: Any) -> None:
    """Put dead letters of QUEUE back, attempts counted from nothing.

    Each is stored anew before the dead one goes: what fails in between leaves two, never none.
    """
    ids = _letters(selection).redrive(queue, _which(selection), to=to or "", dry_run=dry_run)
    _tell(ids, f"put into {to or queue}", dry_run, as_json)


@dead.command()
@click.argument("queue", type=QueueName())
@FILTER
@DRY_RUN
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def purge(queue: str, dry_run: bool, yes: bool, as_json: bool, **selection: Any) -> None:
    """Delete dead letters of QUEUE for good."""
    letters, which = _letters(selection), _which(selection)
    if not dry_run and not yes:
        count = len(letters.purge_dead(queue, which, dry_run=True))
        confirm(f"Delete {_count(count)} of {queue} for good?")
    _tell(letters.purge_dead(queue, which, dry_run=dry_run), "deleted", dry_run, as_json)


def _letters(selection: dict[str, Any]) -> DeadLetters:
    _, connection = only(selection["connection"], lambda connector: connector.admin)
    settings = connection.as_json(getattr(connection, "vhost", ""), {})
    admin: DeadLetters = connector_of(connection.kind).load("admin")(settings)
    return admin


def _which(selection: dict[str, Any]) -> DeadFilter:
    return DeadFilter(selection["ids"], selection["error"], selection["before"], selection["limit"])


def _summary(letter: Stored) -> dict[str, Any]:
    died = at(letter.died, UTC)
    return {
        "id": letter.id,
        "queue": letter.queue,
        "died": died and died.isoformat(),
        "attempts": letter.attempts,
        "error": letter.error,
        "reason": redact(letter.reason),
        "route": letter.route,
    }


def _tell(ids: Sequence[str], what: str, dry_run: bool, as_json: bool) -> None:
    if as_json:
        for id in ids:
            say_json({"id": id})
        return
    say(f"{_count(len(ids))} {'would be ' if dry_run else ''}{what}")


def _count(number: int) -> str:
    return f"{number:,} dead letter{'' if number == 1 else 's'}"
