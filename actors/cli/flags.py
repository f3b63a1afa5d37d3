"""Flags that are settings: each is also a variable and a key of the configuration file.

A flag beats its variable, a variable beats the file; what none of them names is left to
the app's code and then to the default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from actors import log
from actors.cli.values import Number, Whole
from actors.errors import ConfigurationError
from actors.logic.messages.secrets import masked_url

__all__ = ["CONNECTION", "RUN", "blame", "flag", "flags"]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_CONFIG = "actors.cli.flags.config"  #: where a context keeps the path of its file

Verb = TypeVar("Verb", bound=Callable[..., Any])
Decorator = Callable[[Verb], Verb]


class Flag(click.Option):
    """An option with a variable, `CALLBOARD_` and its name."""

    @property
    def key(self) -> str:
        return self.opts[-1].removeprefix("--")

    @property
    def variable(self) -> str:
        return f"CALLBOARD_{self.key.replace('-', '_').upper()}"

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        value = os.environ.get(self.variable)
        if not value and self.key == "connection":
            value = _secret(f"{self.variable}_FILE")
        return value or None


def flag(name: str, help: str, **attributes: Any) -> Decorator[Any]:
    """An option that may also come from `CALLBOARD_<NAME>`, as its help shows."""
    variable = f"CALLBOARD_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, cls=Flag, help=help, envvar=variable, show_envvar=True, **attributes)


def flags(*those: Decorator[Any]) -> Decorator[Any]:
    """Several flags as one decorator, shown in their order."""

    def decorate(verb: Any) -> Any:
        for one in reversed(those):
            verb = one(verb)
        return verb

    return decorate


def blame(error: click.BadParameter) -> ConfigurationError | None:
    """The error as one of the variable or the file that the value came from; None: of a flag."""
    parameter, context = error.param, error.ctx
    if not isinstance(parameter, Flag) or context is None or not parameter.name:
        return None
    source = context.get_parameter_source(parameter.name)
    if source is click.core.ParameterSource.ENVIRONMENT:
        return ConfigurationError(f"{parameter.variable}: {error.message}")
    if source is click.core.ParameterSource.DEFAULT_MAP:
        path = context.meta[_CONFIG]
        return ConfigurationError(f"--config {path}: {parameter.key}: {error.message}")
    return None


def _secret(variable: str) -> str | None:
    """What the file holds that the variable names."""
    path = os.environ.get(variable)
    if not path:
        return None
    if "://" in path:
        raise ConfigurationError(
            f"{variable}: names a file that holds the URL; the URL itself belongs into"
            f" {variable.removesuffix('_FILE')}"
        )
    try:
        secret = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigurationError(f"{variable}: {masked_url(path)}: {cause}") from error
    if not secret:
        raise ConfigurationError(f"{variable}: {path}: is empty")
    return secret


def _read_config(context: click.Context, _: click.Parameter, path: str | None) -> None:
    """Make the file's values the defaults of the other flags."""
    if path is None:
        return
    try:
        table = tomllib.loads(Path(path).read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--config {path}: is not TOML: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"--config {path}: {error.strerror}") from error
    known = {
        parameter.key: parameter
        for parameter in context.command.params
        if isinstance(parameter, Flag) and parameter.key != "config"
    }
    for key in table:
        if key not in known:
            valid = ", ".join(sorted(known))
            raise ConfigurationError(f"--config {path}: unknown key {key!r}; valid: {valid}")
    context.meta[_CONFIG] = path
    context.default_map = {
        str(known[key].name): _values(known[key], value, f"--config {path}: {key}")
        for key, value in table.items()
    }


def _values(parameter: Flag, value: Any, place: str) -> str | list[str]:
    """As text, so that a file's values are checked exactly as a variable's are."""
    if parameter.multiple:
        return [str(one) for one in (value if isinstance(value, list) else [value])]
    if isinstance(value, (list, dict)):
        raise ConfigurationError(f"{place}: one value is expected")
    return str(value)


def connection(help: str) -> Decorator[Any]:
    """`--connection`, for one verb or another."""
    return flag(
        "--connection",
        f"{help} CALLBOARD_CONNECTION_FILE names a file that holds it instead.",
        multiple=True,
        metavar="[NAME=]URL",
    )


#: Of the verbs that look into queues.
CONNECTION = connection("Where the queue is: amqp://, amqps://, spool: or spool:///path.")

#: What decides how an app is run; `check` resolves the same.
RUN = flags(
    connection(
        "A connection: amqp://, amqps://, sse+http://, sse+https://, spool: or spool:///path. "
        "Several may be named."
    ),
    flag("--route", "Only these routes of the app.", multiple=True, metavar="NAME"),
    flag(
        "--prefetch",
        "Unsettled messages, for each queue.  [default: from the bulk size]",
        type=Whole(1, 65535),
        metavar="N",
    ),
    flag(
        "--burst",
        "End when the queues are empty and everything is settled; --no-wait is implied.",
        is_flag=True,
        default=None,
    ),
    flag(
        "--no-wait",
        "Exit 69 where a broker cannot be reached, instead of waiting for it.",
        is_flag=True,
        default=None,
    ),
    flag(
        "--shutdown-timeout",
        "Seconds for the whole drain.  [default: 25]",
        type=Number(min=0, min_open=True),
        metavar="SECONDS",
    ),
    flag("--name", "What the running system is called.  [default: the app]", metavar="NAME"),
    flag(
        "--host-name",
        "What this host is called in the status of several.  [default: the machine's]",
        metavar="NAME",
    ),
    flag(
        "--offer",
        "What this host has for routes that require it.",
        multiple=True,
        metavar="KEY[=VALUE]",
    ),
    flag(
        "--placement",
        "Handlers on every host that joins (spread), or only on this one.  [default: spread]",
        type=click.Choice(("spread", "local")),
    ),
    flag(
        "--admin-port",
        "Loopback port of the actor system.  [default: any free one]",
        type=Whole(0, 65535),
        metavar="PORT",
    ),
    flag(
        "--listen",
        "Where other hosts may join this one; needs a key file.",
        metavar="HOST:PORT",
    ),
    flag(
        "--join",
        "Join the system whose first host listens there; needs a key file. Several are tried "
        "in order.",
        multiple=True,
        metavar="HOST:PORT",
    ),
    flag(
        "--key-file",
        "The keys that all hosts of a system share, as `callboard key` makes them.",
        metavar="FILE",
    ),
    flag(
        "--app-dir",
        "Where the app is imported from.  [default: .]",
        type=click.Path(exists=True, file_okay=False),
        metavar="DIRECTORY",
    ),
    click.option(
        "--config",
        cls=Flag,
        help="A TOML file whose keys are the names of these flags.",
        envvar="CALLBOARD_CONFIG",
        show_envvar=True,
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_read_config,
    ),
    flag(
        "--log-level",
        "Lines below it are not written.  [default: INFO]",
        type=click.Choice(LEVELS, case_sensitive=False),
        metavar="LEVEL",
    ),
    flag(
        "--log-format",
        "text or json.  [default: text on a terminal, else json]",
        type=click.Choice(log.FORMATS),
        metavar="FORMAT",
    ),
    flag(
        "--health",
        "Answer /livez, /readyz and /metrics over HTTP there.  [default: nowhere]",
        metavar="HOST:PORT",
    ),
    flag(
        "--max-bytes",
        "Memory for all unsettled messages.  [default: no limit]",
        type=Whole(min=0),
        metavar="BYTES",
    ),
)
