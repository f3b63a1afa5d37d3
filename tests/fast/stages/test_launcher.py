"""The hosts to join are looked up again and again, whatever a look comes to."""

from __future__ import annotations

import logging
from threading import Event

import pytest

from actors.stages.thespian import launcher
from actors.stages.thespian.launcher import Leaders

NAME = "first:1900"


@pytest.mark.parametrize(
    "error",
    [OSError("no such name"), UnicodeError("label too long"), RuntimeError("odd"), MemoryError()],
    ids=repr,
)
def test_an_error_of_one_look_does_not_end_the_looks(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks, found = 0, Event()

    def host_address(name: str) -> str:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise error
        if looks == 4:
            found.set()
        return f"10.0.0.{min(looks, 3)}"

    monkeypatch.setattr(launcher, "host_address", host_address)
    monkeypatch.setattr(launcher, "LOOKUP_INTERVAL_S", 0.01)
    caplog.set_level(logging.WARNING)
    first = Leaders((NAME,))
    try:
        assert found.wait(10.0)
        assert first.moved()
        ((name, _),) = first.addresses()
        assert name == NAME
    finally:
        first.close()
    expected = isinstance(error, (OSError, UnicodeError))
    assert ("cannot be looked up" in caplog.text) is not expected


def test_a_name_that_no_resolver_takes_is_a_host_that_is_not_there_yet() -> None:
    first = Leaders((f"{'a' * 64}.example:1900",))
    first.close()
    assert first.addresses() == ()
