"""`callboard key`: what the hosts of one system share."""

from __future__ import annotations

import click

from actors.cli.output import say
from actors.plan.network import fresh_key


@click.command(short_help="Make a key that the hosts of a system share.")
def key() -> None:
    """Print a fresh key, for the file that --key-file names.

    \b
        (umask 077 && callboard key > callboard.key)
    """
    say(fresh_key())
