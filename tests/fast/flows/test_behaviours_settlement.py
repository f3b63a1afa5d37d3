"""What async-worker's tests prove of settlement, under the same numbers."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Actions, App, Events, Message, Options
from actors.testing import InMemorySystem, Sent

ACK, REJECT, REQUEUE = Actions.ACK, Actions.REJECT, Actions.REQUEUE


def outcomes(
    handler: Any, *bodies: str, on_success: Actions = ACK, on_exception: Actions = REQUEUE
) -> list[list[Actions]]:
    """What became of messages that were handled as one bulk."""
    app = App(host="127.0.0.1", user="guest", password="guest", prefetch_count=128)
    options = {
        Options.BULK_SIZE: len(bodies),
        Options.BULK_FLUSH_INTERVAL: 1,
        Events.ON_SUCCESS: on_success,
        Events.ON_EXCEPTION: on_exception,
    }
    app.route(["queue"], options=options)(handler)
    with InMemorySystem(app, raise_errors=False) as system:
        sent: list[Sent] = system.deliver("queue", bodies)
        system.advance(60)
        return [one.actions for one in sent]


async def returns(messages: list[Message[str]]) -> None:
    """Marks what came again, so that it ends."""
    for message in messages:
        if message.redelivered:
            message.accept()


async def raises(messages: list[Message[str]]) -> None:
    await returns(messages)
    raise ValueError


def test_what_a_handler_returns_from_is_acknowledged_once() -> None:
    """B14"""
    assert outcomes(returns, "a") == [[ACK]]


def test_of_a_bulk_whose_handler_raises_each_message_is_requeued_once() -> None:
    """B15"""
    assert outcomes(raises, "a", "b") == [[REQUEUE, ACK]] * 2


@pytest.mark.parametrize("action", [REQUEUE, REJECT, ACK])
def test_the_action_on_an_exception(action: Actions) -> None:
    """B16, B17, B18"""
    rest = [ACK] if action is REQUEUE else []
    assert outcomes(raises, "a", on_exception=action) == [[action, *rest]]
    assert outcomes(returns, "a", on_exception=action) == [[ACK]]


@pytest.mark.parametrize("action", [ACK, REJECT, REQUEUE])
def test_the_action_on_success(action: Actions) -> None:
    """B19, B20, B21"""
    rest = [ACK] if action is REQUEUE else []
    assert outcomes(returns, "a", on_success=action) == [[action, *rest]]


async def marks(messages: list[Message[str]]) -> None:
    """Does what each message says, once."""
    for message in messages:
        if message.redelivered or message.body == "accept":
            message.accept()
        elif message.body == "give back":
            message.reject(requeue=True)
        elif message.body == "drop":
            message.reject(requeue=False)


async def marks_and_raises(messages: list[Message[str]]) -> None:
    await marks(messages)
    raise ValueError


def test_two_of_five_are_given_back() -> None:
    """B22"""
    assert outcomes(marks, "a", "give back", "b", "give back", "c") == [
        [ACK], [REQUEUE, ACK], [ACK], [REQUEUE, ACK], [ACK],
    ]  # fmt: skip


def test_two_of_five_are_given_back_where_the_rest_is_dropped() -> None:
    """B23"""
    bodies = ("a", "give back", "b", "give back", "c")
    assert outcomes(marks, *bodies, on_success=REJECT) == [
        [REJECT], [REQUEUE, ACK], [REJECT], [REQUEUE, ACK], [REJECT],
    ]  # fmt: skip


def test_accept_beats_a_default_of_reject() -> None:
    """B24"""
    assert outcomes(marks, "accept", "a", on_success=REJECT) == [[ACK], [REJECT]]


def test_accept_beats_an_exception() -> None:
    """B25"""
    assert outcomes(marks_and_raises, "accept", "a") == [[ACK], [REQUEUE, ACK]]


def test_reject_beats_an_exception_that_would_acknowledge() -> None:
    """B26"""
    assert outcomes(marks_and_raises, "drop", "a", on_exception=ACK) == [[REJECT], [ACK]]


def test_an_exception_is_told_once_for_each_bulk_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """B30"""
    assert outcomes(raises, "a") == [[REQUEUE, ACK]]
    told = [record for record in caplog.records if "the handler raised" in record.message]
    assert [record.levelname for record in told] == ["ERROR"] * 2
    assert told[0].exc_info is not None
