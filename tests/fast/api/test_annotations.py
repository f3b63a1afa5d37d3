"""What a handler's annotation asks for is validated as it is written, or is refused."""

# mypy: disable-error-code="valid-type,type-arg,misc,type-var,no-untyped-def"
from __future__ import annotations

import collections.abc
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import (  # noqa: UP035  # as users of older Pythons write it
    Annotated,
    Any,
    Generic,
    List,  # as users of older Pythons write it
    Literal,
    NewType,
    Optional,
    ParamSpec,
    TypeAlias,
    TypeVar,
    Union,
)
from typing import TypedDict as TypedDictOfTyping

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType, TypedDict

from actors import App, ConfigurationError, HandlerActor, InvalidRoute, Message, RabbitMQMessage
from actors.api.annotations import payload_type
from actors.api.message import decoder_for
from actors.connectors.spool.message import SpoolMessage
from actors.connectors.sse.message import Event
from actors.errors import InvalidMessage
from actors.plan.build import build_host_plan, build_plan, check_app
from actors.plan.settings import Settings

SPOOL = Settings(connections=("spool:",))


class Order(BaseModel):
    id: int


class Refund(BaseModel):
    refunded: str


class Page(BaseModel, Generic[TypeVar("Item")]):
    items: list[int]


@dataclass
class Data:
    id: int


class Typed(TypedDict):
    id: int


T = TypeVar("T")
OrderLike = TypeVar("OrderLike", bound=Order)
Either = TypeVar("Either", Order, Refund)
Positive = Annotated[int, Field(gt=0)]
Number = NewType("Number", int)
Plain: TypeAlias = list[Message[Order]]
InString: TypeAlias = "list[Message[Order]]"
Statement = TypeAliasType("Statement", list[Message[Order]])
Many = TypeAliasType("Many", list[Message[T]], type_params=(T,))
Orders = NewType("Orders", list[Message[Order]])
Generics = list[Message[T]]


class OwnMessage(RabbitMQMessage[Order]): ...


class OwnList(list[Message[Order]]): ...


def handler_of(hint: Any) -> Callable[[Any], None]:
    def handle(messages: Any) -> None: ...

    handle.__annotations__["messages"] = hint
    return handle


# ── forms ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("hint", "payload"),
    [
        (list[Message[Order]], Order),
        (List[Message[Order]], Order),  # noqa: UP006
        (list[RabbitMQMessage[Order]], Order),
        (list[SpoolMessage[Order]], Order),
        (list[Event[Order]], Order),
        (collections.abc.Sequence[Message[Order]], Order),
        (collections.abc.Iterable[Message[Order]], Order),
        (collections.abc.MutableSequence[Message[Order]], Order),
        (Optional[list[Message[Order]]], Order),  # noqa: UP045
        (list[Message[Order]] | None, Order),
        (list[Message[Order]] | Message[Order], Order),
        (list[Message[Order] | None], Order),
        (list[Message[Order] | Message[Refund]], Order | Refund),
        (list[Union[Message[Order], Message[Refund]]], Order | Refund),  # noqa: UP007
        (list[Message[Order | Refund]], Order | Refund),
        (list[RabbitMQMessage[Order] | SpoolMessage[Order]], Order),
        (list[Message[Positive]], Positive),
        (list[Message[list[Order]]], list[Order]),
        (list[Message[Order | None]], Order | None),
        (list[Message[None]], type(None)),
        (list[Message[Literal["a"]]], Literal["a"]),
        (list[Message[Number]], Number),
        (list[Message[Data]], Data),
        (list[Message[Typed]], Typed),
        (list[Message[OrderLike]], OrderLike),
        (list[Message[Either]], Either),
        (Plain, Order),
        (InString, Order),
        ("InString", Order),
        (Statement, Order),
        (Optional[Statement], Order),  # noqa: UP045
        (Many[Order], Order),
        (Many[Positive], Positive),
        (Generics[Order], Order),
        (Orders, Order),
        ("list[Message[Order]]", Order),
        (list["Message[Order]"], Order),
        (list[Message["Order"]], Order),
        ("list[Message[Positive]]", Positive),
        (Any, None),
        (object, None),
        (list, None),
        (List, None),  # noqa: UP006
        (list[Any], None),
        (list[object], None),
        (list[Message], None),
        (list[Message[Any]], None),
        (list[Message[T]], None),
        (list[Message[Order] | Any], None),
        (Many, None),
        (T, None),
    ],
)
def test_what_is_written_is_what_is_validated(hint: Any, payload: Any) -> None:
    assert payload_type(handler_of(hint)) == payload


@pytest.mark.parametrize(
    ("hint", "form"),
    [
        (Order, "list[Message[Order]]"),
        (dict[str, int], "list[Message[dict[str, int]]]"),
        (int, "list[Message[int]]"),
        (str, "list[Message[str]]"),
        (None, "list[Message[None]]"),
        (Order | Refund, "list[Message[Order | Refund]]"),
        (OrderLike, "list[Message[OrderLike]]"),
        (list[Order], "list[Message[Order]]"),
        (list[int], "list[Message[int]]"),
        (list[dict[str, Any]], "list[Message[dict[str, Any]]]"),
        (Optional[list[Order]], "list[Message[Order]]"),  # noqa: UP045
        (list[Order | Refund], "list[Message[Order]]"),
        (list[Message[Order] | Refund], "list[Message[Refund]]"),
        (list[list[Message[Order]]], "list[Message[Order]]"),
        (Message, "list[Message]"),
        (Message[Order], "list[Message[Order]]"),
        (Message[list[Order]], "list[Message[list[Order]]]"),
        (RabbitMQMessage[Order], "list[RabbitMQMessage[Order]]"),
        (tuple[Message[Order], ...], "list[Message[Order]]"),
        (set[Message[Order]], "list[Message[Order]]"),
        (collections.abc.Iterator[Message[Order]], "list[Message[Order]]"),
        (dict[str, Message[Order]], "list[Message[Order]]"),
        (list[Message[Order], Message[Refund]], "list[Message[Order]]"),
        (list[Message[Order]] | list[Message[Refund]], "list[Message[Order | Refund]]"),
        (list[RabbitMQMessage[Order] | SpoolMessage[Refund]], "list[Message[Order | Refund]]"),
        (list[OwnMessage], "list[Message[…]]"),
        (OwnList, "list[Message[OwnList]]"),
        (Annotated[list[Message[Order]], "few"], "list[Message[Annotated[…]]]"),
        (list[Annotated[Message[Order], "new"]], "list[Message[Annotated[…]]]"),
        (Literal["a"], "list[Message[Literal['a']]]"),
        ("Order", "list[Message[Order]]"),
        ("list[Order]", "list[Message[Order]]"),
    ],
)
@pytest.mark.parametrize("how", ["function", "HandlerActor", "callable object", "partial"])
def test_what_could_not_be_validated_is_refused_with_the_right_form(
    hint: Any, form: str, how: str
) -> None:
    class Actor(HandlerActor):
        def handle(self, messages: Any) -> None: ...

    class Object:
        def __call__(self, messages: Any) -> None: ...

    function = handler_of(hint)
    Actor.handle.__annotations__["messages"] = hint
    Object.__call__.__annotations__["messages"] = hint
    handlers = {
        "function": function,
        "HandlerActor": Actor,
        "callable object": Object(),
        "partial": functools.partial(function),
    }
    app = App()
    with pytest.raises(InvalidRoute) as raised:
        app.route(["q"])(handlers[how])
    assert str(raised.value).startswith("route q: handler ")
    assert form in str(raised.value)
    assert "\n" not in str(raised.value)
    assert app.routes == {}


# ── places ─────────────────────────────────────────────────────────────────────


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def by_name(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(bulk):
        return function(bulk)

    return wrapper


def with_a_database(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function("db", *args)

    return wrapper


class Decorator:
    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, *args): ...


Rest = ParamSpec("Rest")


def bare(function: Callable[Rest, None]) -> Callable[Rest, None]:
    def wrapper(*args: Rest.args, **kwargs: Rest.kwargs) -> None: ...

    return wrapper


def function(messages: list[Message[Order]]) -> None: ...


async def coroutine(messages: list[Message[Order]]) -> None: ...


def with_more(messages: list[Message[Order]], limit: int = 3, **rest: str) -> None: ...


def stars(*batches: list[Message[Order]]) -> None: ...


def stars_of_one(*messages: Message[Order]) -> None: ...


def other_first(db: str = "", messages: list[Message[Order]] | None = None) -> None: ...


def after_a_database(db: str, messages: list[Message[Order]]) -> None: ...


def untyped_after_a_database(db: str, messages) -> None: ...


def one_after_a_database(db: str, order: Order) -> None: ...


class OnMethods:
    def method(self, messages: list[Message[Order]]) -> None: ...

    @classmethod
    def of_class(cls, messages: list[Message[Order]]) -> None: ...

    @staticmethod
    def static(messages: list[Message[Order]]) -> None: ...

    @wrapped
    def decorated(self, messages: list[Message[Order]]) -> None: ...

    def __call__(self, messages: list[Message[Order]]) -> None: ...


class Actor(HandlerActor):
    def handle(self, messages: list[Message[Order]]) -> None: ...


class DecoratedActor(HandlerActor):
    @wrapped
    def handle(self, messages: list[Message[Order]]) -> None: ...


class StaticActor(HandlerActor):
    @staticmethod
    def handle(messages: list[Message[Order]]) -> None: ...


class NestedActor(HandlerActor):
    class Inner(BaseModel):
        id: int

    def handle(self, messages: list[Message[Inner]]) -> None: ...


class Base(HandlerActor, Generic[T]):
    def handle(self, messages: list[Message[T]]) -> None: ...


class Paged(Base[list[T]], Generic[T]): ...


class OfOrders(Base[Order]): ...


class OfPages(Paged[Order]): ...


class OfAnything(Base): ...


class GenericObject(Generic[T]):
    def __call__(self, messages: list[Message[T]]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "payload"),
    [
        (function, Order),
        (coroutine, Order),
        (with_more, Order),
        (stars, Order),
        (functools.partial(function), Order),
        (functools.partial(after_a_database, "db"), Order),
        (functools.partial(functools.partial(after_a_database, "db")), Order),
        (functools.update_wrapper(functools.partial(function), function), Order),
        (functools.partial(wrapped(after_a_database), "db"), Order),
        (wrapped(function), Order),
        (wrapped(wrapped(function)), Order),
        (by_name(function), Order),
        (with_a_database(after_a_database), Order),
        (with_a_database(untyped_after_a_database), None),
        (Decorator(function), Order),
        (bare(function), None),
        (OnMethods().method, Order),
        (OnMethods.of_class, Order),
        (OnMethods.static, Order),
        (OnMethods().decorated, Order),
        (OnMethods(), Order),
        (Actor, Order),
        (DecoratedActor, Order),
        (StaticActor, Order),
        (NestedActor, NestedActor.Inner),
        (OfOrders, Order),
        (OfPages, list[Order]),
        (OfAnything, None),
        (GenericObject[Order](), Order),
        (GenericObject(), None),
        (print, None),
        (lambda messages: None, None),
    ],
)
def test_the_annotation_of_the_messages_is_found_wherever_it_stands(
    handler: Any, payload: Any
) -> None:
    app = App()
    app.route(["q"])(handler)
    assert app.routes["q"].message_type == payload


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (stars_of_one, "handler stars_of_one takes a list of messages, not Message[Order]"),
        (other_first, "handler other_first takes a list of messages, not str"),
        (with_a_database(one_after_a_database), "takes a list of messages, not str"),
        (Base[Order], "a handler is a class, not Base[Order]: derive a class from it"),
    ],
)
def test_what_takes_something_else_first_is_refused(handler: Any, told: str) -> None:
    with pytest.raises(InvalidRoute) as raised:
        App().route(["q"])(handler)
    assert told in str(raised.value)


def test_names_of_the_function_that_declares_it_are_known() -> None:
    class Local(BaseModel):
        id: int

    app = App()

    @app.route(["q"])
    def handle(messages: list[Message[Local]]) -> None: ...

    assert app.routes["q"].message_type is Local


def test_names_of_another_function_are_not() -> None:
    def declared(handler: Any) -> App:
        Order = int  # noqa: F841  # not the handler's
        app = App()
        app.route(["q"])(handler)
        return app

    assert declared(function).routes["q"].message_type is Order


def test_what_the_module_defines_below_the_handler_is_known_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = module(
        monkeypatch,
        """
@app.route(["q"])
def handle(messages: "list[Message[Later]]"): ...
@app.route(["r"])
def wrong(later: "Later"): ...
class Later(BaseModel):
    id: "Number"
Number = int
""",
    )
    assert check_app(app, Settings(connections=("spool:",), routes=("q",))) == []
    assert app.routes["q"].adapter.validate_json(b'{"id": 1}').id == 1  # type: ignore[union-attr]
    with pytest.raises(InvalidRoute, match=r"^route r: handler wrong .* list\[Message\[Later\]\]"):
        check_app(app, SPOOL)


def module(monkeypatch: pytest.MonkeyPatch, source: str) -> App:
    """An app in a module of its own: pydantic looks names up in it."""
    made = ModuleType("annotated")
    monkeypatch.setitem(sys.modules, "annotated", made)
    head = "from actors import App, Message\nfrom pydantic import BaseModel\napp = App()\n"
    exec(head + source, vars(made))
    app: App = made.app
    return app


# ── types ──────────────────────────────────────────────────────────────────────


class PlainClass: ...


class OldTypedDict(TypedDictOfTyping):
    id: int


class Dangling(BaseModel):
    other: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Hostile:
    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        raise RuntimeError("not\ntoday")


NO_TYPES = [
    (list[Message[PlainClass]], "PlainClass"),
    (list[Message[PlainClass] | Message[Order]], "PlainClass"),
    (list[Message[list[PlainClass]]], "PlainClass"),
    (list[Message[Dangling]], "Dangling"),
    (list[Message[list[Dangling]]], "Dangling"),
    (list[Message["Order | Nowhere"]], "Nowhere"),  # type: ignore[name-defined]  # noqa: F821
    ("list[Message[Nowhere]]", "Nowhere"),
    ("list[Message[", "list[Message["),
    (list[Message[Hostile]], "not"),
]
if sys.version_info < (3, 12):
    NO_TYPES.append((list[Message[OldTypedDict]], "typing_extensions"))


@pytest.mark.parametrize(("hint", "told"), NO_TYPES)
@pytest.mark.parametrize(
    "way",
    [
        check_app,
        lambda app: build_plan(app, SPOOL),
        lambda app: build_host_plan(app, Settings(join=("h:1",)), "app:app"),
    ],
    ids=["check", "run", "join"],
)
def test_a_type_that_cannot_be_made_is_told_before_anything_starts(
    hint: Any, told: str, way: Callable[[App], Any]
) -> None:
    app = App()
    app.route(["q"])(handler_of(hint))
    app.route(["other"])(function)
    with pytest.raises(ConfigurationError, match=r"^route q: ") as raised:
        way(app)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_only_the_types_of_routes_that_are_run_are_made() -> None:
    app = App()
    app.route(["q"])(handler_of(list[Message[PlainClass]]))
    app.route(["other"])(function)
    assert check_app(app, Settings(connections=("spool:",), routes=("other",))) == []


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (list[Message[Positive]], b"1", b"0"),
        (list[Message[Order] | Message[Refund]], b'{"refunded": "a"}', b'{"other": 1}'),
        (list[Message[Order]] | None, b'{"id": 1}', b"null"),
        (list[Message[Order | None]], b"null", b"[]"),
        (list[Message[list[Order]]], b'[{"id": 1}]', b'{"id": 1}'),
        (list[Message[OrderLike]], b'{"id": 1}', b'{"id": "a"}'),
        (list[Message[Data]], b'{"id": 1}', b'{"id": "a"}'),
        (list[Message[Typed]], b'{"id": 1}', b"{}"),
        (list[Message[Number]], b"1", b'"a"'),
        (Many[Positive], b"1", b"0"),
    ],
)
def test_bodies_are_taken_and_refused_by_what_is_written(
    hint: Any, good: bytes, bad: bytes
) -> None:
    app = App()
    app.route(["q"])(handler_of(hint))
    decode = decoder_for(app.routes["q"].adapter, plain_text=False)
    decode(good)
    with pytest.raises(InvalidMessage):
        decode(bad)
