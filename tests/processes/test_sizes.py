"""One limit of a message: what is taken is delivered, and what is larger is told so."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from actors import Actions, App, Events, Options
from actors.api.message import Message
from actors.api.outlet import ConnectionOutlet
from actors.cli import invoke
from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.connection import SpoolClient
from actors.connectors.spool.file import SpoolFile
from actors.errors import ConfigurationError, PublishError
from actors.logic.messages import entry
from actors.plan.plan import PipelinePlan
from actors.publisher import Publisher
from actors.roles.port import DeadLettered, Fetched, Lost
from actors.roles.protocol import Bulk, Settlement
from actors.stages.link.session import MAX_BODY
from actors.stages.memory import MemoryStage
from actors.testing import InMemorySystem
from actors.usercode.publisher_thread import open_publisher

LIMIT = 1000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit as it is, on a scale that a test has the memory for."""
    monkeypatch.setattr(entry, "MAX_MESSAGE", LIMIT)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("body", "headers"), [(LIMIT + 1, None), (LIMIT, {"a": 1}), (10, {"a": "x" * LIMIT})]
)
def test_what_is_too_large_with_its_headers_is_refused(
    tmp_path: Path, body: int, headers: dict[str, Any] | None
) -> None:
    path = tmp_path / "spool.db"
    with Publisher(f"spool://{path}") as publisher:
        with pytest.raises(ValueError, match="at most 1,000 bytes"):
            publisher.put("q", serialized_data=bytes(body), headers=headers)
        with pytest.raises(ValueError, match="at most 1,000 bytes"):
            publisher.put_many("q", [b"", bytes(body)], headers=headers)
    outlet = ConnectionOutlet("spool", json.dumps({"path": str(path)}), open_publisher)
    with pytest.raises((PublishError, ValueError), match="at most 1,000 bytes"):
        outlet.put_sync("q", serialized_data=bytes(body), properties={"headers": headers})
    outlet.put_sync("q", serialized_data=bytes(LIMIT))
    outlet.close()
    assert len(SpoolAdmin(SpoolFile(path)).show("q")) == 1


@pytest.mark.usefixtures("small")
def test_a_line_that_is_too_large_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines").write_text(f'"{"a" * (LIMIT - 2)}"\n"{"a" * LIMIT}"\n')
    url = f"--connection=spool://{tmp_path}/spool.db"
    assert invoke(["publish", "q", str(tmp_path / "lines"), url]) == 1
    assert "line 2 cannot be sent: a message has at most 1,000 bytes" in capsys.readouterr().err


def test_a_larger_one_that_lies_in_the_file_is_a_dead_letter_and_is_never_read(
    tmp_path: Path,
) -> None:
    file = SpoolFile(tmp_path / "spool.db")
    file.put("q", [entry.Entry(b"large", id="large"), entry.Entry(b"good", id="good")])
    with file.transaction() as at:
        body = f"zeroblob({entry.MAX_MESSAGE + 1})"
        at.execute(f"UPDATE content SET body = {body} WHERE id = 'large'")
    client = SpoolClient(PipelinePlan("spool", "spool", json.dumps({"path": str(file.path)})))
    client.open()
    client.consume("q", 1, 10)
    events: list[Any] = []
    end = time.monotonic() + 20
    while not any(isinstance(event, Fetched) for event in events):
        assert time.monotonic() < end, events
        events += client.turn(time.monotonic())
    assert not any(isinstance(event, Lost) for event in events)
    (dead_lettered,) = (event for event in events if isinstance(event, DeadLettered))
    assert "536,870,913 bytes with its headers, more than 536,870,912" in dead_lettered.reasons[0]
    with file.reading() as at:
        assert at.execute("SELECT count(*) FROM message WHERE state = 3").fetchone() == (1,)
    client.close()
    file.close()


def test_a_frame_has_room_for_the_largest_delivery_and_all_that_goes_with_it() -> None:
    assert entry.MAX_MESSAGE + 65535 * 16 < MAX_BODY == entry.MAX_FRAME
    with pytest.raises(ConfigurationError, match="bulk_bytes"):
        App().route(["q"], options={Options.BULK_BYTES: entry.MAX_MESSAGE + 1})(print)


class Scales(MemoryStage):
    """Weighs what actors send."""

    heaviest = 0

    def post(self, sender: str, to: str, message: Any) -> None:
        if isinstance(message, Bulk):
            weight = sum(len(piece.blob) for piece in message.pieces)
            Scales.heaviest = max(Scales.heaviest, weight)
        if isinstance(message, Settlement):
            Scales.heaviest = max(Scales.heaviest, sum(len(s.raw) for s in message.singles))
        super().post(sender, to, message)


@pytest.mark.parametrize("action", [Actions.ACK, Actions.DEAD_LETTER])
@pytest.mark.parametrize("kind", ["spool", "amqp"])
def test_several_large_ones_travel_apart(
    kind: str, action: Actions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.roles.batcher.TRANSFER_MAX", 5000)
    monkeypatch.setattr(InMemorySystem, "stage_class", Scales)
    monkeypatch.setattr(Scales, "heaviest", 0)
    app = App() if kind == "spool" else App(host="127.0.0.1")

    @app.route(["q"], options={Options.BULK_SIZE: 4, Options.BULK_BYTES: 4500,
                               Options.IN_FLIGHT: 8, Events.ON_SUCCESS: action})  # fmt: skip
    async def handle(messages: list[Message[Any]]) -> None:
        pass

    with InMemorySystem(app) as system:
        sent = system.deliver("q", [b"1" * 2000] * 40)
        system.advance(100.0)
        assert [one.actions for one in sent] == [[action]] * 40
    assert 0 < Scales.heaviest <= 5000
