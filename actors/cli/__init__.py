"""The command line: `callboard VERB`, what it prints for mistakes, what it exits with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from actors.cli.dead import dead
from actors.cli.drain import drain
from actors.cli.flags import blame
from actors.cli.jobs import call, jobs, pause, resume, send
from actors.cli.key import key
from actors.cli.output import say
from actors.cli.publish import publish
from actors.cli.run import check, run
from actors.cli.spool import spool
from actors.cli.status import status
from actors.errors import (
    CallboardError,
    ConfigurationError,
    Exit,
    PublishError,
    UnreachableError,
)
from actors.log import redact
from actors.version import version

#: As a shell reports a program that SIGINT ended.
INTERRUPTED = 130


class Verbs(click.Group):
    """Lists its verbs in the order in which one meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(version(), prog_name="callboard", message="%(prog)s %(version)s")
def callboard() -> None:
    """A worker for message streams, built as an actor system.

    Every flag of `run` may also be given as a variable, or in the file that --config names.
    """


VERBS = (run, check, status, drain, publish, call, send, jobs, pause, resume, dead, spool, key)
for verb in VERBS:
    callboard.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script: carry out one command line and exit."""
    sys.exit(invoke(sys.argv[1:] if arguments is None else arguments))


def invoke(arguments: Sequence[str], command: click.Command = callboard) -> int:
    """Carry out one command line and return what to exit with."""
    try:
        code = command.main(list(arguments), prog_name=command.name, standalone_mode=False)
    except click.BadParameter as error:
        if (blamed := blame(error)) is not None:
            return _fail(blamed)
        return _usage(error)
    except click.UsageError as error:
        return _usage(error)
    except click.Abort:
        return INTERRUPTED
    except CallboardError as error:
        return _fail(error)
    return int(code or Exit.CLEAN)


def _usage(error: click.UsageError) -> int:
    """What click shows, without secrets and without what moves the cursor."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return Exit.USAGE
    if error.ctx is not None:
        say(*error.ctx.get_usage().split("\n"), err=True)
        say(f"Try '{error.ctx.command_path} --help' for help.", "", err=True)
    say(f"Error: {redact(error.format_message())}", err=True)
    return Exit.USAGE


def _fail(error: CallboardError) -> int:
    """One line on stderr, and the exit code that tells a supervisor what to do."""
    text = " ".join(redact(str(error)).split()) or type(error).__name__
    say(f"callboard: {text}", err=True)
    if isinstance(error, ConfigurationError):
        return Exit.CONFIG
    if isinstance(error, UnreachableError):
        return Exit.UNREACHABLE
    return Exit.WORK_LEFT if isinstance(error, PublishError) else Exit.CRASH
