"""Values of every type that somebody may hand to any argument."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import inspect
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from actors.api.outlet import Outlet
from actors.errors import PublishError
from actors.logic.messages.entry import NUMBERS, TEXTS
from actors.publisher import Publisher

#: All that a put may raise for its arguments.
DOCUMENTED = (PublishError, ValueError, TypeError)


class Silent:
    """Even to show it is an error."""

    def __repr__(self) -> str:
        raise RuntimeError("there is nothing to see")


class Text(str):
    __slots__ = ()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 256, 2**31, 2**63, 2**70, 10**5000,
    1.5, -0.5, 1e300, float("nan"), float("inf"), 1 + 2j,
    "", "q", "x" * 255, "x" * 256, "é" * 128, "\ud800", "a\nb", "a\0b", Text("q"), "\x1b[2J",
    b"", b"q", b"\xff", bytearray(b"q"), memoryview(b"q"),
    [], [1], (), {1}, {}, range(3), nested(3000), ENDLESS,
    {"a": 1}, {1: 2}, {"": 1}, {"x" * 256: 1}, {"\ud800": 1}, {"a": "\ud800"}, {"a": b"\xff"},
    {"a": None}, {"a": float("nan")}, {"a": 2**70}, {"a": nested(3000)}, {"a": [1, {"b": (1, 2)}]},
    {"a": {1: 2}}, {"a": object()}, {"a": datetime.datetime(2030, 1, 1)}, {"a": decimal.Decimal(1)},
    uuid.UUID(int=1), datetime.datetime(2030, 1, 1), datetime.timedelta(1), decimal.Decimal(1),
    decimal.Decimal("nan"), object(), Silent(), len, type, ...,
]  # fmt: skip


def misbehaviours(
    put: Callable[..., Any], good: Mapping[str, Any], arguments: Iterable[str]
) -> list[str]:
    """Calls with an odd value that raise what is not documented, or what is no single line."""
    found = []
    for argument in arguments:
        for number, value in enumerate(VALUES):
            options = {**good, argument: value}
            if argument == "serialized_data":
                options.pop("data", None)
            what = f"{argument}={type(value).__name__} (number {number})"
            try:
                put(**options)
            except DOCUMENTED as error:
                if not str(error).isprintable():
                    found.append(f"{what}: {error!r}")
            except BaseException as error:
                found.append(f"{what}: {type(error).__name__}")
    return found


def publisher_misbehaviours(publisher: Publisher, body: str) -> list[str]:
    """… of all that a publisher has, with `body` ("data" or "serialized_data") odd too."""
    many = {"queue": "q", "bodies": [b"1"]}
    options = ["headers", "priority", "delay", "timeout"]
    found = misbehaviours(
        lambda each: publisher.put_many("q", [b"1", each]) if body != "data" else None, {}, ["each"]
    )
    found += misbehaviours(publisher.put_many, many, ["queue", "bodies", *options])
    for put in (publisher.put, lambda **given: asyncio.run(publisher.aput(**given))):
        good = {"queue": "q", "data": 1}
        found += misbehaviours(put, good, ["queue", body, "message_id", "prioritty", *options])
    return found


def outlet_misbehaviours(outlet: Outlet) -> list[str]:
    """… of all that a handler has to put with."""
    good = {"routing_key": "q", "data": 1}
    arguments = [*inspect.signature(outlet.put).parameters, "colour"]
    assert "mandatory" in arguments
    found: list[str] = []
    for put in (outlet.put_sync, lambda **given: asyncio.run(outlet.put(**given))):
        found += misbehaviours(put, good, arguments)
    return found + misbehaviours(
        lambda **properties: outlet.put_sync("q", 1, properties=properties),
        {},
        ["headers", *NUMBERS, *TEXTS, "colour"],
    )
