"""The placement of routes: what each requires against what each host offers."""

from __future__ import annotations

from collections.abc import Iterable

#: A key and what is offered or required of it: `("gpu", True)`, `("gpu", 2)`, `("zone", "eu")`.
Offer = tuple[str, str | int | bool]


def parse_offers(texts: Iterable[str]) -> tuple[Offer, ...]:
    """Each `KEY` or `KEY=VALUE`, as a host is given them. Raises ValueError."""
    return tuple(map(_parse, texts))


def _parse(text: str) -> Offer:
    key, equals, value = text.partition("=")
    if not key or (equals and not value):
        raise ValueError(f"must be KEY or KEY=VALUE, not {text!r}")
    if not equals:
        return key, True
    return key, int(value) if value.isdecimal() else value


def satisfies(offers: Iterable[Offer], requires: Iterable[Offer]) -> bool:
    """Whether a host with these offers may run what requires these.

    A number is the least that will do, and a number offered is a yes; a text must be the same.
    """
    offered = dict(offers)
    return all(_meets(offered.get(key, False), wanted) for key, wanted in requires)


def spelled(requires: Iterable[Offer]) -> str:
    """What is required, as it would be offered."""
    return ", ".join(key if value is True else f"{key}={value}" for key, value in requires)


def _meets(offered: str | int | bool, wanted: str | int | bool) -> bool:
    if isinstance(wanted, bool):
        return bool(offered) is wanted
    if isinstance(wanted, int):
        return isinstance(offered, int) and offered >= wanted
    return offered == wanted
