"""What can never be called rightly is refused where it is declared."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Annotated, Any, Literal, NoReturn

import pytest

from actors import AMQPConnection, App, HandlerActor, Options
from actors.errors import ConfigurationError, InvalidRoute


def nothing() -> None: ...
def one(app: Any) -> None: ...
def two(error: Any, retries: int) -> None: ...
def keyword(*, app: Any) -> None: ...
def yields(app: Any) -> Iterator[int]:
    yield 1


async def yields_too(app: Any) -> AsyncIterator[int]:
    yield 1


def yields_twice(error: Any, retries: int) -> Iterator[int]:
    yield 1


def shown(value: Any) -> str:
    """A name for the report that is the same in each process."""
    return getattr(value, "__qualname__", type(value).__name__ if callable(value) else repr(value))


MISFITS = [nothing, two, keyword, yields, yields_too, "a name", None, functools.partial(one, 1)]


@pytest.mark.parametrize("declare", ["run_on_startup", "run_on_shutdown", "run_every"])
@pytest.mark.parametrize("hook", MISFITS, ids=shown)
def test_a_hook_or_timer_that_cannot_take_the_app_is_refused(declare: str, hook: Any) -> None:
    app = App()
    place: Any = getattr(app, declare)
    with pytest.raises(ConfigurationError, match=rf"{declare}.* must .*|{declare}.* yields"):
        (place(60.0) if declare == "run_every" else place)(hook)
    assert [app.startup_hooks, app.shutdown_hooks, app.timers] == [[], [], []]


@pytest.mark.parametrize(
    "hook",
    [one, lambda *things: None, lambda app=None: None, functools.partial(two, 1), dict, print],
    ids=shown,
)
def test_whatever_takes_the_app_is_taken(hook: Any) -> None:
    app = App()
    app.run_on_startup(hook)
    app.run_on_shutdown(hook)
    app.run_every(1.0)(hook)


@pytest.mark.parametrize("callback", [nothing, one, yields_twice, "a name", 5], ids=shown)
def test_a_callback_that_cannot_take_its_arguments_is_refused(callback: Any) -> None:
    with pytest.raises(ConfigurationError, match="connection_fail_callback"):
        AMQPConnection(host="127.0.0.1", connection_fail_callback=callback)
    with pytest.raises(InvalidRoute, match="connection_fail_callback"):
        App().route(["a"], options={Options.CONNECTION_FAIL_CALLBACK: callback})
    AMQPConnection(host="127.0.0.1", connection_fail_callback=two)


@pytest.mark.parametrize("seconds", [one, "60", None, True, 0, -1.0, float("inf"), float("nan")])
def test_a_timer_needs_its_seconds(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"run_every.* seconds"):
        App().run_every(seconds)


def method(name: str, function: Callable[..., Any]) -> type[HandlerActor]:
    return type("Odd", (HandlerActor,), {"handle": lambda self, messages: None, name: function})


@pytest.mark.parametrize("name", ["on_start", "on_stop"])
@pytest.mark.parametrize("function", [nothing, two, yields, keyword], ids=shown)
def test_a_class_whose_life_cannot_be_called_is_refused(name: str, function: Any) -> None:
    with pytest.raises(InvalidRoute, match=f"Odd: {name} (must take no argument but self|yields)"):
        App().route(["a"])(method(name, function))
    App().route(["a"])(method(name, one))
    App().route(["a"])(method(name, staticmethod(nothing)))


def handler(hint: Any, awaits: bool) -> Callable[..., Any]:
    def function(messages: list[Any]) -> Any: ...
    async def coroutine(messages: list[Any]) -> Any: ...

    chosen: Callable[..., Any] = coroutine if awaits else function
    chosen.__annotations__["return"] = hint
    return chosen


VALUES = [
    int, "dict[str, int]", list[int], bool, str | bytes, Annotated[int, "more"], Literal["done"],
    Awaitable[int], Coroutine[Any, Any, dict[str, int]], App,
]  # fmt: skip
NO_VALUES = [
    None, "None", Any, object, NoReturn, int | None, Awaitable[None], Annotated[None, "more"],
    Coroutine[Any, Any, None] | None, "Unheard", Literal[None],
]  # fmt: skip


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("hint", VALUES, ids=shown)
def test_a_handler_that_promises_a_value_is_refused(hint: Any, awaits: bool) -> None:
    with pytest.raises(InvalidRoute, match=r"handler .* returns .*: a handler returns nothing"):
        App().route(["a"])(handler(hint, awaits))
    with pytest.raises(InvalidRoute, match="a handler returns nothing"):
        App().route(["a"])(_class(hint))


def _class(hint: Any) -> type[HandlerActor]:
    def handle(self: Any, messages: list[Any]) -> Any: ...

    handle.__annotations__["return"] = hint
    return method("handle", handle)


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("hint", NO_VALUES, ids=shown)
def test_a_handler_that_may_return_nothing_is_taken(hint: Any, awaits: bool) -> None:
    App().route(["a"])(handler(hint, awaits))
