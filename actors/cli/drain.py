"""`callboard drain`: move a host's work away, and end it."""

from __future__ import annotations

import time

import click

from actors.cli.flags import flag
from actors.cli.output import say
from actors.errors import UnreachableError

NOTHING = 3
#: Seconds between two looks whether the host is still there.
INTERVAL = 0.5


@click.command(short_help="Move a host's work away, and end it.")
@click.argument("host")
@flag(
    "--name",
    "The system that the host belongs to.  [default: the only one that runs here]",
    metavar="NAME",
)
def drain(host: str, name: str | None) -> int:
    """Have HOST, as `status` names it, finish what it has, get no more, and end.

    Its handlers go on with their last bulks, and the others have the rest; then `run` ends
    there, with 0. To be said on any host of the system. Of the first host it is the drain of
    the whole system. Returns once the host has left.

    Exits 0 once it has left, 3 if nothing runs here.
    """
    from actors.ops import system

    if not system.leave(host, name):
        say(f"callboard: nothing runs{f' under the name {name}' if name else ''}", err=True)
        return NOTHING
    while _is_there(host, name):
        time.sleep(INTERVAL)
    say(f"{host} has left")
    return 0


def _is_there(host: str, name: str | None) -> bool:
    from actors.ops import system

    try:
        report = system.status(name)
    except UnreachableError:
        return True  # it may be about to end
    return report is not None and any(actor["host"] == host for actor in report["actors"])
