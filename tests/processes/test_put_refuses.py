"""What cannot be a message is refused where it is put, by every face and on every field."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from actors import AMQPConnection, App, SpoolConnection
from actors.api.connections import Connection
from actors.api.message import decode_json
from actors.api.outlet import ConnectionOutlet
from actors.cli import invoke
from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.file import SpoolFile
from actors.publisher import Publisher
from actors.testing import InMemorySystem
from actors.usercode.publisher_thread import open_publisher
from tests.support.odd import outlet_misbehaviours, publisher_misbehaviours

NESTED: list[Any] = []
for _ in range(3000):
    NESTED = [NESTED]

NO_NUMBERS: list[Any] = ["1", b"1", [1], {}, object(), 1j]
BAD: dict[str, list[Any]] = {
    "priority": [1.5, 1.0, True, -1, 256, 2**63, 10**400, float("nan"), *NO_NUMBERS],
    "delay": [True, -1, -0.1, float("nan"), float("inf"), 1e300, 10**400, *NO_NUMBERS],
    "message_id": [5, 0, b"x", object(), ["x"], "é" * 128, "\ud800"],
    "headers": [
        5, "text", b"x", [("a", 1)], object(), {1: "a"}, {b"a": 1}, {None: 1}, {"a": object()},
        {"a": b"x"}, {"a": float("nan")}, {"a": {1j: 1}}, {"a": NESTED},
    ],
    "queue": [5, None, b"q", "", "é" * 128, "\ud800", ["q"]],
}  # fmt: skip
CASES = [(field, value) for field, values in BAD.items() for value in values]
IDS = [f"{field}-{type(value).__name__}-{number}" for number, (field, value) in enumerate(CASES)]

WrongKinds = (TypeError, ValueError)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


def nothing_is_stored(path: Path) -> bool:
    return not path.exists() or not SpoolAdmin(SpoolFile(path)).queues()


def arguments(field: str, value: Any) -> tuple[Any, dict[str, Any]]:
    return (value, {}) if field == "queue" else ("q", {field: value})


def put(publisher: Publisher, queue: Any, **options: Any) -> None:
    publisher.put(queue, 1, **options)


def aput(publisher: Publisher, queue: Any, **options: Any) -> None:
    asyncio.run(publisher.aput(queue, 1, **options))


def put_many(publisher: Publisher, queue: Any, **options: Any) -> None:
    if "message_id" in options:
        raise ValueError("it takes none")
    publisher.put_many(queue, [b"1", b"2"], **options)


@pytest.mark.parametrize("face", [put, aput, put_many])
@pytest.mark.parametrize(("field", "value"), CASES, ids=IDS)
def test_a_publisher_refuses_what_no_handler_could_be_given(
    path: Path, face: Callable[..., None], field: str, value: Any
) -> None:
    queue, options = arguments(field, value)
    with Publisher(f"spool://{path}") as publisher, pytest.raises(WrongKinds):
        face(publisher, queue, **options)
    assert nothing_is_stored(path)


@pytest.mark.parametrize(("field", "value"), CASES, ids=IDS)
def test_a_handler_refuses_it_the_same(path: Path, field: str, value: Any) -> None:
    if field == "delay":
        return  # it has none
    queue, properties = arguments(field, value)
    outlet = ConnectionOutlet("spool", json.dumps({"path": str(path)}), open_publisher)
    try:
        with pytest.raises(WrongKinds):
            outlet.put_sync(queue, 1, properties=properties)
    finally:
        outlet.close()
    assert nothing_is_stored(path)


@pytest.mark.parametrize(("field", "value"), CASES, ids=IDS)
def test_the_test_kit_refuses_it_the_same(field: str, value: Any) -> None:
    if field == "delay":
        return
    queue, properties = arguments(field, value)
    refused: list[BaseException] = []
    app = App()

    @app.route(["words"])
    async def index(messages: list[Any]) -> None:
        try:
            await app.connection("spool").put(queue, 1, properties=properties)
        except WrongKinds as error:
            refused.append(error)

    with InMemorySystem(app) as system:
        system.deliver("words", [1])
        assert system.published() == []
    assert refused


@pytest.mark.parametrize(
    "flags", [["--priority", "1.5"], ["--priority", "256"], ["--delay", "nan"],
              ["--delay", "1e300"], ["--delay", "-1"]],
)  # fmt: skip
def test_publish_refuses_it_as_usage(
    path: Path, tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines").write_text("1\n")
    code = invoke(["publish", "q", str(tmp_path / "lines"), f"--connection=spool://{path}", *flags])
    assert code == 2
    assert "Error: Invalid value for '--" in capsys.readouterr().err
    assert nothing_is_stored(path)


def test_deep_data_is_refused_too(path: Path) -> None:
    with Publisher(f"spool://{path}") as publisher, pytest.raises(ValueError, match="nested"):
        publisher.put("q", NESTED)


GOOD: list[Mapping[str, Any]] = [
    {"priority": 0}, {"priority": 255}, {"delay": 0}, {"delay": 0.5}, {"message_id": "é" * 127},
    {"message_id": ""}, {"message_id": None}, {"headers": {}}, {"headers": None},
    {"headers": {"a": [1, None, "ä", {"b": 1.5}]}},
]  # fmt: skip


@pytest.mark.parametrize("options", GOOD)
def test_what_is_within_the_limits_is_taken(path: Path, options: Mapping[str, Any]) -> None:
    with Publisher(f"spool://{path}") as publisher:
        id = publisher.put("q", 1, **options)
    (message,) = SpoolAdmin(SpoolFile(path)).show("q")
    assert message.id == id
    assert message.priority == options.get("priority", 0)


# ── any argument, any value ────────────────────────────────────────────────────


def readable(path: Path) -> bool:
    """All that was taken can be shown, and its JSON decoded."""
    admin = SpoolAdmin(SpoolFile(path))
    letters = [letter for queue in admin.queues() for letter in admin.show(queue.queue, 10_000)]
    assert letters
    return all(decode_json(letter.body) is not Ellipsis for letter in letters)


def test_any_value_of_any_argument_is_taken_or_refused_as_documented(path: Path) -> None:
    with Publisher(f"spool://{path}") as publisher:
        assert publisher_misbehaviours(publisher, "data") == []
        assert readable(path)
        assert publisher_misbehaviours(publisher, "serialized_data") == []


def test_any_value_that_a_handler_puts_is_taken_or_refused_as_documented(path: Path) -> None:
    with closing(
        ConnectionOutlet("spool", json.dumps({"path": str(path)}), open_publisher)
    ) as outlet:
        assert outlet_misbehaviours(outlet) == []


@pytest.mark.parametrize(
    "connection", [SpoolConnection(name="c"), AMQPConnection(host="h", name="c")]
)
def test_any_value_that_a_handler_puts_in_the_kit_too(connection: Connection) -> None:
    app = App(connections=[connection])
    app.route(["q"])(lambda messages: None)
    with InMemorySystem(app, raise_errors=False):
        assert outlet_misbehaviours(app.connection("c")) == []


@pytest.mark.parametrize(
    ("headers", "amqp", "spool"),
    [
        ({"a": b"x"}, True, False),
        ({"a": datetime(2030, 1, 1)}, True, False),
        ({"a": [None, {"b": 1}]}, True, True),
        ({"a": 1.5}, False, True),
        ({"a": 2**70}, False, True),
        ({"x" * 256: 1}, False, True),
        ({"a": object()}, False, False),
        ({"a": "\ud800"}, False, False),
    ],
)
def test_the_kit_takes_the_headers_that_the_connection_would(
    headers: Any, amqp: bool, spool: bool
) -> None:
    for connection, fits in ((AMQPConnection(host="h"), amqp), (SpoolConnection(), spool)):
        app = App(connections=[connection])
        app.route(["q"])(lambda messages: None)
        with InMemorySystem(app) as system:
            with nullcontext() if fits else pytest.raises(WrongKinds):
                app.connection(connection.name).put_sync("q", 1, properties={"headers": headers})
            assert len(system.published()) == fits
