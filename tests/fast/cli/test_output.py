"""What the verbs print: lines that nobody forges, JSON that everybody reads."""

from __future__ import annotations

import io
import json
import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest

import actors.cli
from actors.cli import invoke
from actors.cli.output import DEPTH, confirm, in_json, say, say_json, table
from tests.fast.logic.messages.test_plain import HOSTILE

TEXT = "".join(HOSTILE.values())
#: As a command line may have it: no NUL, and of surrogates what stands for a byte.
ARGUMENT = TEXT.replace("\0", "").replace(HOSTILE["lone surrogates"], "\udcff")


def nested(levels: int) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = [{"in": value}]
    return value


ODD: dict[str, Any] = {
    "text": TEXT,
    "keys": {TEXT: 1, 5: 2, b"\xff": 3},
    "bytes": b"\xff\xfe",
    "not a number": [math.nan, math.inf, -math.inf],
    "decimal": Decimal("1.5"),
    "time": datetime(9999, 12, 31, tzinfo=UTC),
    "nested": nested(DEPTH),
    "nested beyond all measure": nested(5000),
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_whatever_a_header_holds_is_one_line_of_json(
    value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    say_json({"headers": value})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert printed[:-1].isprintable()
    json.loads(printed, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_json_keeps_what_it_can_say() -> None:
    told = {"a": [1, 2.5, None, True], "é": "\x1b\x7f\u202e"}
    assert json.loads(in_json(told)) == told


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"id {TEXT}", err=True)
    say("a\nready")
    printed = capsys.readouterr()
    assert printed.err.isascii()
    assert printed.err.count("\n") == 1
    assert printed.out == "a\\nready\n"


def test_a_cell_of_a_table_is_as_wide_as_what_is_shown_of_it() -> None:
    heads, hostile, calm = table(("id", "n"), [("\x1b[2J", 1), ("calm", 2)])
    assert len(heads) == len(hostile) == len(calm)
    assert hostile.startswith("\\x1b[2J")


def test_a_question_moves_no_cursor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(click.UsageError, match="--yes"):
        confirm(f"Delete {TEXT}?")
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert printed.endswith("\n")  # what follows begins a line of its own


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "a", ARGUMENT],
        ["publish", "q", f"/nowhere/{ARGUMENT}"],
        ["dead", "list", "q", "--before", ARGUMENT],
        [ARGUMENT],
        ["run", f"{ARGUMENT}:app"],
        ["check", "app", "--connection", ARGUMENT],
        ["check", "app", "--connection", f"amqp://{ARGUMENT}"],
        ["check", "app", "--config", f"/nowhere/{ARGUMENT}"],
        ["status", ARGUMENT],
    ],
)
def test_a_mistake_is_told_without_what_moves_the_cursor(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(arguments) > 0
    assert all(line.isprintable() for line in capsys.readouterr().err.splitlines())


def test_the_verbs_print_by_one_way_only() -> None:
    ways = re.compile(r"click\.(echo|secho|confirm|prompt)|print\(|std(out|err)\.write")
    folder = Path(actors.cli.__file__).parent
    users = {path.name for path in folder.glob("*.py") if ways.search(path.read_text())}
    assert users == {"output.py"}


@pytest.mark.parametrize("verb", [[], ["dead"], ["spool"]])
def test_no_help_of_a_verb_is_cut(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([*verb, "--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert listed
    assert "..." not in listed
