"""Failures of user code that repeat: one line for each kind, as grave as what it sums up."""

from __future__ import annotations

import asyncio
import logging

import pytest

from actors.usercode import app as usercode


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_a_sum_is_as_grave_as_what_it_sums_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    monkeypatch.setattr(usercode, "in_force", lambda: True)

    async def fail() -> None:
        for number in range(3):
            usercode.log_failure(f"invalid {number}", kind="a bulk", level=level)
        usercode.sum_up(0.0)
        usercode.sum_up(0.0)  # forgets what did not come again

    asyncio.run(fail())
    told = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert told == [
        (level, "invalid 0"),
        (level, "a bulk 2 more times in 0 s; the last: invalid 2"),
    ]
