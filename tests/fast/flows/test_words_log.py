from __future__ import annotations

import logging
from array import array

import pytest

from actors.logic.bulks.bulk import Piece
from actors.logic.messages.records import pack
from actors.logic.settlement.failure import Outcome
from actors.plan.plan import RoutePlan
from actors.roles.port import Started
from actors.roles.protocol import Bulk, Settlement
from actors.usercode.runner import InlineUserCode
from handlers.log import app


def test_the_smallest_handler_logs_what_comes(caplog: pytest.LogCaptureFixture) -> None:
    raw = pack("id", "log", b"", 0, 1.0, 0, b'{"hello": "world"}')
    piece = Piece("log", 1, 1, raw, array("I", [len(raw)]).tobytes(), 0)
    code = InlineUserCode(app, [RoutePlan("log", ("log",))], "spool", lambda: 0.0)
    code.start()
    assert code.turn(0.0) == [Started()]
    code.submit(Bulk(1, 1, "log", (piece,), (1,)))
    with caplog.at_level(logging.INFO, "handlers.log"):
        (done,) = code.turn(0.0)
    code.close()
    assert isinstance(done, Settlement)
    assert [entry.outcome for entry in done.ranges] == [Outcome.ACK]
    assert "{'hello': 'world'}" in caplog.text
