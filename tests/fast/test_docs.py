"""What any page names exists: files, links, flags, variables, options, and code that runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from actors.api.options import Actions, Events, Options
from actors.cli import callboard

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CHANGELOG.md", "deploy/README.md"]
PAGES += [f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))]

#: Folders of the repository, as pages name what lies in them.
PLACES = "actors|handlers|tests|benchmarks|docs|deploy|\\.ci"

#: Flags in the text that are another program's.
ELSEWHERE = {"--preload"}  # gunicorn's

PYTHON = [
    (page, block)
    for page in PAGES
    for block in re.findall(
        r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL
    )
]


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


@cache
def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from commands(inner)


@cache
def known_flags() -> set[str]:
    """Those of the command line, and those of the programs that measure."""
    ours = {
        flag for command in commands(callboard) for option in command.params for flag in option.opts
    }
    programs = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    theirs = set(re.findall(r'add_argument\("(--[a-z-]+)"', programs))
    return ours | theirs | ELSEWHERE | {"--help", "--version"}


@cache
def sources() -> str:
    """All that could read a variable."""
    paths = [*ROOT.glob("actors/**/*.py"), *ROOT.glob("tests/**/*.py")]
    return "".join(path.read_text() for path in paths if path != Path(__file__))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_the_repository_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    for path in re.findall(rf"`((?:{PLACES})/[\w./@-]*)(?:::\w+)?`", text_of(page)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_exists(page: str) -> None:
    for path, test in re.findall(r"`(tests/[\w./-]+)::(\w+)`", text_of(page)):
        assert f"def {test}(" in (ROOT / path).read_text(), test


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_of_the_text_exists(page: str) -> None:
    spans = re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text_of(page), flags=re.M | re.S)
    )
    for span in spans:
        if span.startswith(("--", "callboard ", "python -m ")):
            assert set(re.findall(r"(?<!\S)--[a-z-]+", span)) <= known_flags(), span


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_to_be_typed_exists(page: str) -> None:
    for line in re.findall(r"^(?:\$ )?callboard [a-z].*$", text_of(page), re.MULTILINE):
        _, verb, *words = line.removeprefix("$ ").partition("#")[0].split()
        assert verb in callboard.commands, line
        assert {word for word in words if word.startswith("--")} <= known_flags(), line


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_that_is_named_is_read(page: str) -> None:
    flags = {f"CALLBOARD_{flag[2:].replace('-', '_').upper()}" for flag in known_flags()}
    for variable in set(re.findall(r"\bCALLBOARD_[A-Z_]*[A-Z]\b", text_of(page))):
        base = variable.removesuffix("_FILE")
        assert base in flags or f'"{variable}"' in sources(), variable


@pytest.mark.parametrize("page", PAGES)
def test_every_option_event_and_action_that_is_named_exists(page: str) -> None:
    for space in (Options, Events, Actions):
        named = set(re.findall(rf"\b{space.__name__}\.([A-Z_]+)\b", text_of(page)))
        assert named <= set(space.__members__), space


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[page for page, _ in PYTHON])
def test_every_python_block_runs(page: str, block: str, tmp_path: Path) -> None:
    for beside in (block for _, block in PYTHON if block.startswith("# orders.py\n")):
        (tmp_path / "orders.py").write_text(beside)
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "CALLBOARD_STATE_DIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
