"""A singleton timer outlives whatever befalls its lock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors import App
from actors.usercode import timers as timercode
from actors.usercode.timers import TimerCode

Answer = bool | None | Exception


class ScriptedLock:
    """Gives these answers, and then that it is held."""

    def __init__(self, *answers: Answer) -> None:
        self._answers: Iterator[Answer] = iter(answers)

    def held(self) -> bool | None:
        answer = next(self._answers, True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        pass


async def here(function: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None]:
    return function(*args), None


BROKEN = OSError(5, "the disk is gone")


@pytest.mark.parametrize(
    "answers",
    [(BROKEN,), (BROKEN, BROKEN), (True, BROKEN), (True, True, BROKEN), (None, BROKEN, False)],
    ids=str,
)
def test_a_lock_that_fails_is_asked_again_and_the_failure_is_told(
    answers: tuple[Answer, ...], caplog: pytest.LogCaptureFixture
) -> None:
    ran = play(lambda _: ScriptedLock(*answers))
    assert ran >= 3
    assert "tick: its lock fails, so it does not run here: OSError" in caplog.text


def test_a_lock_that_cannot_be_opened_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(timercode, "AGAIN", 0.01)
    tries: list[str] = []

    def open_lock(name: str) -> ScriptedLock:
        tries.append(name)
        if len(tries) < 3:
            raise BROKEN
        return ScriptedLock()

    assert play(open_lock) >= 3
    assert len(tries) == 3
    assert "its lock fails" in caplog.text


def play(locks: Callable[[str], ScriptedLock]) -> int:
    """How often a timer ran, until it had three times."""
    app, ran = App(), 0
    enough = asyncio.Event()

    @app.run_every(0.01, options={"singleton": True})
    def tick(_: App) -> None:
        nonlocal ran
        ran += 1
        if ran == 3:
            enough.set()

    async def run() -> None:
        code = TimerCode(lambda: app, here, here, locks=locks)
        await code.start()
        await asyncio.wait_for(enough.wait(), 10.0)
        await code.stop()

    asyncio.run(run())
    return ran
