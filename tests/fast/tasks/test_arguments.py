"""Arguments and results: typed by the signature, refused in one line that names them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from actors import (
    AMQPConnection,
    App,
    InvalidArguments,
    InvalidMessage,
    JobContext,
    NotSupported,
    SpoolConnection,
    SSEConnection,
    Unique,
)
from actors.errors import ConfigurationError, InvalidRoute
from actors.plan.build import build_plan, check_app
from actors.tasks.arguments import Signature
from actors.tasks.declare import processes


class Order(BaseModel):
    """A model."""

    id: int
    total: Decimal


@dataclass
class Place:
    """A dataclass."""

    x: float
    y: float


def rich(
    order: Order, at: datetime, id: UUID, raw: bytes, place: Place, tags: tuple[str, ...] = ()
) -> bytes:
    return raw


RICH: dict[str, Any] = {
    "order": Order(id=1, total=Decimal("9.50")),
    "at": datetime(2030, 1, 1, tzinfo=UTC),
    "id": UUID(int=7),
    "raw": b"\x00\xff",
    "place": Place(1.0, 2.0),
    "tags": ("a", "b"),
}


def add(a: int, b: int = 1) -> int:
    return a + b


def test_every_type_comes_out_as_it_went_in() -> None:
    signature = Signature("rich", rich)
    body, _ = signature.encode((), RICH)
    assert json.loads(body)["raw"] == "AP8="
    assert signature.decode(body) == RICH
    assert signature.result.validate_json(signature.result.dump_json(b"\x00\xff")) == b"\x00\xff"


@given(st.integers(), st.text(), st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_arguments_come_out_as_they_went_in(number: int, text: str, floats: list[float]) -> None:
    def task(number: int, text: str, floats: list[float]) -> None: ...

    signature = Signature("task", task)
    body, _ = signature.encode((number, text), {"floats": floats})
    assert signature.decode(body) == {"number": number, "text": text, "floats": floats}


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "line"),
    [
        ((1, 2, 3), {}, TypeError, "task add takes 2 arguments, not 3"),
        ((), {}, TypeError, "task add: argument a is missing"),
        ((1,), {"c": 2}, TypeError, "task add has no argument 'c'; there are: a, b"),
        ((1,), {"a": 2}, TypeError, "task add: argument a is given twice"),
        (("x",), {}, InvalidArguments, "task add: argument a: Input should be a valid integer"),
        ((1, None), {}, InvalidArguments, "task add: argument b: Input should be a valid integer"),
    ],
)
def test_a_caller_is_refused_in_one_line(
    args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=f"^{line}") as raised:
        Signature("add", add).encode(args, kwargs)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("body", "form", "arguments"),
    [
        (b'{"a": 1}', "", {"a": 1, "b": 1}),
        (b"[1, 2]", "", {"a": 1, "b": 2}),
        (b"[1]", "list", {"a": 1, "b": 1}),
        (b"5", "", {"a": 5, "b": 1}),
        (b"5", "one", {"a": 5, "b": 1}),
    ],
)
def test_a_body_is_read_as_named_listed_or_the_only_argument(
    body: bytes, form: str, arguments: dict[str, Any]
) -> None:
    assert Signature("add", add).decode(body, form) == arguments


def test_the_only_argument_of_a_task_may_be_a_list() -> None:
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    signature = Signature("total", total)
    assert signature.decode(b"[1, 2]") == {"numbers": [1, 2]}
    assert signature.decode(b"[[1, 2]]", "list") == {"numbers": [1, 2]}


@pytest.mark.parametrize(
    ("body", "form", "line"),
    [
        (b'{"a": "x"}', "", "argument a: Input should be a valid integer"),
        (b'{"a": 1, "c": 2}', "", "argument c: Extra inputs are not permitted"),
        (b"{}", "", "argument a: Field required"),
        (b"[1, 2, 3]", "", "arguments: 3 are too many, the task takes 2"),
        (b'{"a": 1}', "list", "arguments: a list was announced, and it is none"),
        (b"{bad", "", "argument body: Invalid JSON"),
        (b"\xff", "", "not JSON"),
        (b"", "", "not JSON"),
        (b'{"a": NaN}', "", "argument a"),
        (b"[" * 5000, "", ""),
    ],
)
def test_a_message_that_is_no_call_is_refused(body: bytes, form: str, line: str) -> None:
    with pytest.raises(InvalidMessage, match=f"^{line}"):
        Signature("add", add).decode(body, form)


def test_what_is_wrong_is_told_without_the_value() -> None:
    with pytest.raises(InvalidArguments) as raised:
        Signature("add", add).encode(("canary-4711",), {})
    assert "canary" not in str(raised.value)


def test_the_context_is_no_argument_wherever_it_stands() -> None:
    def first(ctx: JobContext, a: int) -> None: ...

    def last(a: int, ctx: JobContext) -> None: ...

    for function in (first, last):
        signature = Signature("task", function)
        assert signature.names == ("a",)
        assert signature.context == "ctx"
        assert signature.described() == "(a: int)"


def every(*args: int) -> None: ...


def named(**kwargs: int) -> None: ...


def odd(thing: Callable[[], Undefined]) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (every, r"task t: \*args is not taken: give each argument a name"),
        (named, r"task t: \*\*kwargs is not taken: give each argument a name"),
        (odd, "task t: its annotations cannot be resolved: NameError"),
    ],
)
def test_a_signature_that_cannot_be_called_is_refused_by_check(function: Any, line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        Signature("t", function).check()


def test_an_app_with_such_a_task_cannot_be_run() -> None:
    app = App(connections=[SpoolConnection("/nowhere/spool.db")])
    app.task("t")(every)
    with pytest.raises(ConfigurationError, match=r"^task t: \*args is not taken"):
        check_app(app)


def test_tasks_on_a_connection_that_takes_no_calls_are_refused_by_name() -> None:
    app = App(connections=[SSEConnection(url="http://localhost/")])
    app.task("add")(add)
    line = r"^task add: connection \S+ is of kind sse, which takes no calls"
    with pytest.raises(NotSupported, match=line):
        check_app(app)
    with pytest.raises(
        NotSupported, match=r"^no connection of the app takes jobs \(\S+ is of kind sse"
    ):
        app.jobs.client()


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"unique": Unique()}, "unique needs a store"),
        ({"at_most_once": True}, "at_most_once needs a store"),
        ({"timeout": 1501}, "a timeout of more than 1500 s, not 1501, needs a store"),
    ],
)
def test_what_a_broker_cannot_keep_is_refused_by_name(
    options: dict[str, Any], lacking: str
) -> None:
    app = App(connections=[AMQPConnection(host="localhost", user="guest", password="guest")])
    app.task("add", **options)(add)
    line = rf"^task add: connection \S+ is of kind amqp, which keeps no jobs: {lacking}"
    with pytest.raises(NotSupported, match=line):
        check_app(app)


def test_twenty_tasks_are_not_twenty_processes() -> None:
    app = App(connections=[SpoolConnection("/nowhere/spool.db")])
    for number in range(20):
        app.task(f"t{number}")(add)
    app.task("own", concurrency=1)(add)
    (pipeline,) = build_plan(app).pipelines
    assert {pool: len(routes) for pool, routes in pipeline.pools.items()} == {"tasks": 20, "own": 1}
    assert {route.concurrency for route in pipeline.pools["tasks"]} == {processes()}
    assert 1 <= processes() <= 4


def test_a_result_is_encoded_by_its_annotation() -> None:
    def task() -> Order: ...  # type: ignore[empty-body]

    signature = Signature("task", task)
    data = signature.result.dump_json(Order(id=1, total=Decimal("1.5")))
    assert signature.result.validate_json(data) == Order(id=1, total=Decimal("1.5"))


# ── declarations ──────────────────────────────────────────────────────────────


def declare(app: App, name: Any = "t", thing: Any = add, **options: Any) -> Any:
    return app.task(name, **options)(thing)


def generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"name": "a b"}, "task 'a b': a task's id is 1 to 128 of the characters"),
        ({"name": add}, r'a task needs a name: @app\.task\("name"\)'),
        ({"thing": 5}, "task t: must be a function or a TaskActor class, not 5"),
        ({"thing": Order}, "task t: class Order must derive from TaskActor and have a run"),
        ({"thing": generator}, "task t: generator yields: a task returns"),
    ],
)
def test_what_cannot_be_a_task_is_refused_where_it_is_declared(
    arguments: dict[str, Any], line: str
) -> None:
    with pytest.raises(InvalidRoute, match=f"^{line}"):
        declare(App(), **arguments)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"timeot": 5}, "task t: unknown option 'timeot'; valid: queue, "),
        ({"timeout": 0}, "task t: option timeout: input should be greater than 0, not 0"),
        ({"priority": 256}, "task t: option priority: input should be less than or equal to 255"),
        ({"at_most_once": True, "in_flight": 2}, "task t: at_most_once needs in_flight=1, not 2"),
        ({"raises": [5]}, "task t: option raises: must be exception classes, and 5 is none"),
        ({"queue": "a\nb"}, "task t: option queue: queue must be the name of a queue"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        declare(App(), **options)


def test_two_tasks_of_one_name_are_refused() -> None:
    app = App()
    declare(app)
    with pytest.raises(InvalidRoute, match=r"^task t: there is one of this name"):
        declare(app)


def test_the_queue_of_a_route_is_no_queue_of_a_task() -> None:
    app = App()

    @app.route(["t"])
    def handle(messages: list[Any]) -> None: ...

    with pytest.raises(InvalidRoute, match=r"^task t: queue t is that of a route: set queue="):
        declare(app)


def test_tasks_of_one_queue_agree_on_its_processes() -> None:
    app = App()
    declare(app, "one", queue="q", concurrency=2)
    with pytest.raises(
        InvalidRoute, match=r"^tasks one and two share queue q, but their concurren"
    ):
        declare(app, "two", queue="q", concurrency=3)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"wait": float("inf")}, "task add: option wait: input should be a finite number"),
        ({"at": datetime(2030, 1, 1)}, "task add: option at: must be a datetime with a time zone"),
        ({"id": "a/b"}, "task add: option id: a job's id is 1 to 128 of the characters"),
        ({"prioritty": 1}, "task add: unknown option 'prioritty'; valid: delay, "),
    ],
)
def test_an_option_of_a_call_that_cannot_be_is_refused(options: dict[str, Any], line: str) -> None:
    app = App()
    task = app.task("add")(add)
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        task.options(**options)


def test_arguments_that_are_too_large_are_refused_before_anything_is_stored() -> None:
    app = App()

    @app.task("echo", max_args=1000)
    def echo(text: str) -> str:
        return text

    with pytest.raises(InvalidArguments, match=r"^task echo: its arguments are 2,011 bytes, more"):
        echo.job("x" * 2000)


def test_a_task_is_still_the_plain_function() -> None:
    task = App().task("add")(add)
    assert task(2, b=3) == 5
    assert repr(task) == "<Task add(a: int, b: int = 1) -> int>"
