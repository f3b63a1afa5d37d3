"""A connector from outside of the package is served like those that ship."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import actors
from actors import Actions, ConfigurationError
from actors.api import connector as registry
from actors.api.connections import parse_connection
from actors.api.connector import connector_of, connectors
from actors.testing import InMemorySystem
from tests.support import toy

ROOT = Path(__file__).parents[2]


def test_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_NOTES", str(tmp_path / "notes"))
    with InMemorySystem(toy.app) as system:
        sent = system.deliver("words", ["a", "b"])
        system.advance(1.0)
        assert [message.actions for message in sent] == [[Actions.ACK]] * 2
    assert (tmp_path / "notes").read_text() == "a\nb\n"


@pytest.mark.parametrize("given", [(), ("--connection", "toy:")])
def test_in_processes(given: tuple[str, ...], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    with (tmp_path / "log").open("w+b") as log:
        done = subprocess.run(
            [
                sys.executable, "-m", "actors", "run", "tests.support.toy:app",
                "--burst", "--name", f"toy-{os.getpid()}", *given,
            ],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60,
            env={
                **os.environ,
                "TOY_NOTES": str(notes),
                "CALLBOARD_STATE_DIR": str(tmp_path / "state"),
                "CALLBOARD_RUNTIME_DIR": str(tmp_path / "run"),
            },
        )  # fmt: skip
    assert done.returncode == 0, (tmp_path / "log").read_text()
    assert sorted(notes.read_text().split()) == ["one", "three", "two"]


def test_its_urls_are_known_where_it_is_registered() -> None:
    assert isinstance(parse_connection("toy:"), toy.ToyConnection)
    with pytest.raises(ConfigurationError, match=r"valid: amqp://.*toy:"):
        parse_connection("teapot://")


def test_a_part_that_it_does_not_have_is_told() -> None:
    with pytest.raises(ConfigurationError, match="kind toy takes no messages"):
        connector_of("toy").load("publisher")


def test_every_part_of_every_connector_is_there() -> None:
    parts = ("connection", "message", "client", "publisher", "admin", "lock")
    for connector in connectors():
        for part in parts:
            if getattr(connector, part):
                assert callable(connector.load(part)), f"{connector.kind}: {part}"


def test_kinds_are_named_in_connectors_and_by_those_who_declare_connections_alone() -> None:
    package = Path(actors.__file__).parent
    kinds = {connector.kind for connector in registry.connectors()}
    places = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in kinds
    }
    unauthenticated = {
        place for place in places if not place.startswith("connectors/")
    } - {"api/connections.py"}  # fmt: skip
    assert unauthenticated == set()
