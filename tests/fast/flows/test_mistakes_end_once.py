"""A mistake in the program, seen only when it runs, costs each message one attempt."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from actors import Actions, App, Events, HandlerActor, InvalidHandler, Message, Retry
from actors.testing import InMemorySystem


def passes_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def passes_on_awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        return await function(*arguments)

    return wrapper


def returns_a_value(messages: Any) -> Any:
    return {"ok": True}


async def returns_a_value_later(messages: Any) -> Any:
    return {"ok": True}


def returns_false(messages: Any) -> Any:
    return False


@passes_on
def takes_nothing() -> None: ...


@passes_on
def takes_two(messages: Any, more: Any) -> None: ...


@passes_on_awaiting
async def takes_nothing_later() -> None: ...


def makes_a_generator(messages: Any) -> Any:
    return (message for message in messages)


class Returns(HandlerActor):
    def handle(self, messages: list[Message[Any]]) -> Any:
        return len(messages)


MISTAKES = [
    returns_a_value, returns_a_value_later, returns_false, takes_nothing, takes_two,
    takes_nothing_later, makes_a_generator, Returns,
]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{}, {Events.ON_EXCEPTION: Actions.REQUEUE}, {Events.ON_EXCEPTION: Retry(attempts=0)}],
    ids=["by default", "REQUEUE", "Retry without end"],
)
@pytest.mark.parametrize("handler", MISTAKES, ids=lambda handler: handler.__name__)
def test_it_is_a_dead_letter_at_once(handler: Any, options: dict[Any, Any]) -> None:
    app = App()
    app.route(["a"], options=options)(handler)
    with InMemorySystem(app) as system:
        (sent,) = system.deliver("a", [1])
        system.advance(7200.0)
        assert sent.actions == [Actions.DEAD_LETTER]
        assert sent.reason
        (error,) = system.errors("a")
        assert isinstance(error, InvalidHandler)


def test_a_table_may_say_otherwise() -> None:
    app = App()
    app.route(["a"], options={Events.ON_EXCEPTION: {InvalidHandler: Actions.ACK}})(returns_a_value)
    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("a", [1])
        system.advance(7200.0)
        assert sent.actions == [Actions.ACK]


def test_a_type_error_of_the_handlers_own_follows_the_table() -> None:
    def helper() -> None: ...

    @passes_on
    def handler(messages: Any) -> None:
        helper(messages)  # type: ignore[call-arg]

    app = App()
    app.route(["a"], options={Events.ON_EXCEPTION: Retry(attempts=2)})(handler)
    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("a", [1])
        system.advance(7200.0)
        assert sent.actions == [Actions.REQUEUE, Actions.DEAD_LETTER]
        assert {type(error) for error in system.errors("a")} == {TypeError}
