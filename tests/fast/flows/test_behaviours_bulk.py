"""What async-worker's tests prove of bulks and their timer, under the same numbers."""

from __future__ import annotations

from typing import Any

import pytest

from actors import Actions, Options
from actors.asyncworker import App
from actors.plan.build import build_plan
from actors.testing import InMemorySystem

Bulks = list[list[Any]]


def collecting(bulks: Bulks, prefetch: int = 128, **options: Any) -> App:
    """An app whose handler keeps what it is called with, and raises at "bad"."""
    app = App(host="127.0.0.1", user="guest", password="guest", prefetch_count=prefetch)

    @app.route(["queue"], options={Options[name]: value for name, value in options.items()})
    async def handler(messages: Any) -> None:
        bulks.append([message.body for message in messages])
        if "bad" in bulks[-1] and not messages[0].redelivered:
            raise ValueError("bad")

    return app


@pytest.mark.parametrize(
    ("bulk_size", "prefetch", "size"), [(2048, 1024, 1024), (4096, 8192, 4096)]
)
def test_a_bulk_is_no_larger_than_the_prefetch(bulk_size: int, prefetch: int, size: int) -> None:
    """B1"""
    bulks: Bulks = []
    app = collecting(bulks, prefetch, BULK_SIZE=bulk_size)
    with InMemorySystem(app) as system:
        system.deliver("queue", range(4096))
    assert [len(bulk) for bulk in bulks] == [size] * (4096 // size)


def test_a_bulk_of_one_is_a_list_of_one() -> None:
    """B2"""
    bulks: Bulks = []
    with InMemorySystem(collecting(bulks)) as system:
        (sent,) = system.deliver("queue", ["a"])
        assert (bulks, sent.actions) == ([["a"]], [Actions.ACK])


def test_a_bulk_of_two_waits_for_the_second() -> None:
    """B3"""
    bulks: Bulks = []
    with InMemorySystem(collecting(bulks, BULK_SIZE=2)) as system:
        (first,) = system.deliver("queue", ["a"])
        assert (bulks, first.actions) == ([], [])
        (second,) = system.deliver("queue", ["b"])
        assert bulks == [["a", "b"]]
        assert [first.actions, second.actions] == [[Actions.ACK], [Actions.ACK]]


def test_a_bulk_keeps_the_order_and_what_was_in_it_is_not_in_the_next() -> None:
    """B5"""
    bulks: Bulks = []
    with InMemorySystem(collecting(bulks, BULK_SIZE=3)) as system:
        system.deliver("queue", [1, 2, 3])
        system.deliver("queue", [4, 5, 6])
    assert bulks == [[1, 2, 3], [4, 5, 6]]


def test_a_route_without_options_has_the_documented_ones() -> None:
    """B6"""
    (pipeline,) = build_plan(collecting([])).pipelines
    (route,) = pipeline.routes
    assert (route.bulk_size, route.bulk_flush_interval) == (1, 60)
    bulks: Bulks = []
    with InMemorySystem(collecting(bulks), raise_errors=False) as system:
        (good,) = system.deliver("queue", ["good"])
        (bad,) = system.deliver("queue", ["bad"])
        assert good.actions == [Actions.ACK]
        assert bad.actions == [Actions.REQUEUE, Actions.ACK]


def test_a_bulk_that_does_not_fill_is_handed_out_once_it_is_old() -> None:
    """B7"""
    bulks: Bulks = []
    with InMemorySystem(collecting(bulks, BULK_SIZE=3)) as system:
        sent = system.deliver("queue", [1, 2])
        system.advance(59.9)
        assert bulks == []
        system.advance(0.1)
        assert bulks == [[1, 2]]
        assert [one.actions for one in sent] == [[Actions.ACK]] * 2


def test_no_handler_is_called_with_an_empty_bulk() -> None:
    """B8"""
    bulks: Bulks = []
    with InMemorySystem(collecting(bulks, BULK_SIZE=3)) as system:
        system.advance(600)
        system.deliver("queue", [1, 2, 3])
        system.advance(600)
    assert bulks == [[1, 2, 3]]


def test_a_handler_that_raises_on_an_old_bulk_does_not_stop_the_timer() -> None:
    """B9"""
    bulks: Bulks = []
    app = collecting(bulks, BULK_SIZE=3, BULK_FLUSH_INTERVAL=5)
    with InMemorySystem(app, raise_errors=False) as system:
        (bad,) = system.deliver("queue", ["bad"])
        system.advance(60)
        (good,) = system.deliver("queue", ["good"])
        system.advance(5)
    assert bulks == [["bad"], ["bad"], ["good"]]
    assert bad.actions == [Actions.REQUEUE, Actions.ACK]
    assert good.actions == [Actions.ACK]
