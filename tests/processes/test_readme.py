"""What the README says can be typed, and is so."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import click

from actors.api.options import Events, Options, Retry, RouteOptions, policy_of
from actors.cli import callboard
from actors.connectors.rabbitmq.queues.retry_queues import step
from actors.errors import Exit
from actors.logic.settlement.failure import JITTER, Policy

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
HANDLERS = (ROOT / "docs/handlers.md").read_text()
RETRIES = (ROOT / "docs/retries.md").read_text()

#: What is typed beside Callboard's own commands.
ELSEWHERE = ("echo", "pip", ".")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def named(name: str) -> str:
    """The Python block that begins with this file name."""
    (block,) = (block for block in blocks("python") if block.startswith(f"# {name}\n"))
    return block


def commands() -> Iterator[list[str]]:
    """Every command of a block to be typed, the parts of a pipe each for itself."""
    for block in blocks("sh"):
        for line in block.splitlines():
            words: list[str] = []
            for word in [*shlex.split(line, comments=True), "|"]:
                if word != "|":
                    words.append(word)
                elif words:
                    yield words
                    words = []


def python(directory: Path, *arguments: str) -> str:
    """Run Python as a user would, beside the files in `directory`; returns what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={
            "PYTHONPATH": str(ROOT),
            "CALLBOARD_STATE_DIR": str(directory),
            "CALLBOARD_RUNTIME_DIR": str(directory / "run"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ── Python ─────────────────────────────────────────────────────────────────────


def test_the_tests_of_the_example_pass(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(named("orders.py"))
    (tmp_path / "test_orders.py").write_text(named("test_orders.py"))
    assert "2 passed" in python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def test_the_example_handles_what_was_published(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text(named("orders.py"))
    (tmp_path / "lines").write_text('{"id": 1, "total": 9.5}\n{"id": 2, "total": -1}\n')
    spool = ("--connection", "spool:")
    python(tmp_path, "-m", "actors", "publish", "orders", "lines", *spool)
    assert "id=1 total=9.5" in python(
        tmp_path, "-m", "actors", "run", "orders:app", "--burst", *spool
    )
    assert "the total is negative" in python(
        tmp_path, "-m", "actors", "dead", "list", "orders", *spool
    )


# ── commands ───────────────────────────────────────────────────────────────────


def test_every_command_is_one_that_exists() -> None:
    typed = list(commands())
    assert typed
    for words in typed:
        if words[0] == "callboard":
            check_callboard(words[1:])
        elif words[0] == "make":
            check_make(words[1:])
        else:
            assert words[0] in ELSEWHERE, words


def test_every_module_that_is_to_be_run_exists() -> None:
    for module in re.findall(r"python -m ([\w.]+)", README):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def check_callboard(words: list[str]) -> None:
    command: click.Command = callboard
    while isinstance(command, click.Group):
        assert words[0] in command.commands, words
        command = command.commands[words.pop(0)]
    for flag in words:
        assert not flag.startswith("-") or flag in flags_of(command), (command.name, flag)


def check_make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        variable, is_variable, _ = word.partition("=")
        wanted = rf"\b{variable}=" if is_variable else rf"^{word}:"
        assert re.search(wanted, makefile, re.MULTILINE), word


def flags_of(command: click.Command) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts} | {"--help"}


# ── facts ──────────────────────────────────────────────────────────────────────


def test_the_table_of_options_has_every_option_with_its_default() -> None:
    rows = re.findall(r"^\| `(Options|Events)\.(\w+)` \| `(.*?)` \|", HANDLERS, re.MULTILINE)
    spaces: dict[str, Any] = {"Options": Options, "Events": Events}
    told = {spaces[space][name].value: default for space, name, default in rows}
    fields = RouteOptions.model_fields
    assert told == {
        name: spelled(field.get_default(call_default_factory=True))
        for name, field in fields.items()
    }


def spelled(default: object) -> str:
    if isinstance(default, Enum):
        return str(f"{type(default).__name__}.{default.name}")
    return repr(default).replace("'", '"')


def test_retry_has_the_defaults_that_are_told() -> None:
    assert f"`{Retry()!r}`" in HANDLERS


def test_each_retry_lasts_as_long_as_the_table_says() -> None:
    rows = re.findall(r"^\| `(Retry\(.*?\))` \| (.*?) \| (.*?) \|$", RETRIES, re.MULTILINE)
    assert [retry for retry, *_ in rows[:1]] == ["Retry()"]
    for retry, on_rabbitmq, elsewhere in rows:
        table = policy_of(eval(retry))
        assert (on_rabbitmq, elsewhere) == (lasts(table, step), lasts(table, float))


def lasts(policy: Policy, waits: Callable[[float], float]) -> str:
    """The sum of all waits, with the most jitter and with none."""
    if not policy.attempts:
        return "never"
    plain = replace(policy, jitter=False)
    delays = [plain.apply(attempts)[1] for attempts in range(1, policy.attempts)]
    told = [spoken(sum(waits(d * share) for d in delays)) for share in (1 - JITTER, 1.0)]
    return " to ".join(dict.fromkeys(told))


def spoken(seconds: float) -> str:
    whole = round(seconds)
    parts = {"h": whole // 3600, "min": whole // 60 % 60, "s": 0 if whole >= 3600 else whole % 60}
    return " ".join(f"{number} {unit}" for unit, number in parts.items() if number)


def test_exit_codes_are_those_that_are_told() -> None:
    (told,) = re.findall(r"^Exit codes: (.*?)\. `status`", README, re.MULTILINE | re.DOTALL)
    assert {int(code) for code in re.findall(r"\b\d+\b", told)} == set(Exit)
