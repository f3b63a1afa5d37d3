"""What went wrong in async-worker, and does not here: D1.n are its proven defects."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from actors import Actions, App, Events, Message, Options, SSEApplication, SSEConnection, Timeit
from actors.logic.messages.records import Record
from actors.plan.build import build_plan
from actors.testing import InMemorySystem
from tests.support.sse_driver import Driver
from tests.support.sse_server import SSEServer, stream

Bulks = list[list[Any]]


def new_app(prefetch: int = 128) -> App:
    return App(host="127.0.0.1", user="guest", password="guest", prefetch_count=prefetch)


def collecting(bulks: Bulks, **options: Any) -> App:
    app = new_app()

    @app.route(["queue"], options={Options[name]: value for name, value in options.items()})
    async def handler(messages: Any) -> None:
        bulks.append([message.body for message in messages])

    return app


def test_a_timed_handler_succeeds_more_than_once() -> None:
    """D1.1: from the second bulk on, a timed handler failed after it had succeeded."""
    app, times = new_app(), []

    @app.route(["queue"], options={Options.BULK_SIZE: 2})
    @Timeit(name="index", callback=lambda **told: times.append(told["transactions"]))
    async def handler(messages: Any) -> None: ...

    with InMemorySystem(app) as system:
        sent = system.deliver("queue", range(6))
        assert [one.actions for one in sent] == [[Actions.ACK]] * 6
    assert [list(transactions) for transactions in times] == [["index"]] * 3


class AMQPError(Exception):
    """As the client of a broker raises it."""


@pytest.mark.parametrize("error", [AMQPError, asyncio.CancelledError, SystemExit, ValueError])
def test_whatever_a_handler_raises_its_messages_are_settled(error: type[BaseException]) -> None:
    """D1.2: an error of the AMQP client, or a cancellation, left them unsettled for ever."""
    app = new_app()

    @app.route(["queue"], options={Options.BULK_SIZE: 2})
    async def handler(messages: Any) -> None:
        if not messages[0].redelivered:
            raise error

    with InMemorySystem(app, raise_errors=False) as system:
        sent = system.deliver("queue", [1, 2])
        system.advance(60)
        assert [one.actions for one in sent] == [[Actions.REQUEUE, Actions.ACK]] * 2


def test_settlements_of_a_lost_connection_are_dropped_and_none_is_made_twice() -> None:
    """D1.3: an ack that failed had the whole bulk rejected, what was acknowledged too.

    The queues of the kit raise at a delivery that is settled a second time.
    """
    app = new_app()

    @app.route(["queue"], options={Options.BULK_SIZE: 2})
    async def handler(messages: Any) -> None:
        await asyncio.sleep(1)

    with InMemorySystem(app) as system:
        sent = system.deliver("queue", [1, 2])
        system.disconnect()  # while the handler has them
        system.advance(60)
        assert [one.actions for one in sent] == [[Actions.ACK]] * 2
        assert [one.attempts for one in sent] == [2, 2]
        assert system.status()["totals"]["stale"] == 1


def test_what_is_not_json_is_a_dead_letter_at_once_and_its_neighbours_are_handled() -> None:
    """D1.4: it came back at once, for ever."""
    app, seen = new_app(), []

    @app.route(["queue"], options={Options.BULK_SIZE: 3})
    async def handler(messages: list[Message[int]]) -> None:
        seen.append([message.body for message in messages])

    with InMemorySystem(app) as system:
        good, bad, other = system.deliver("queue", [b"1", b"{bad", b"2"])
        assert seen == [[1, 2]]
        assert [good.actions, other.actions] == [[Actions.ACK]] * 2
        assert system.dead("queue")[0].id == bad.id
        assert bad.attempts == 1
        assert bad.reason.startswith("not JSON: ")


def test_no_bulk_holds_a_message_twice_after_a_reconnect() -> None:
    """D1.5: the bucket outlived the connection, and a bulk was [1, 2, 1]."""
    bulks: Bulks = []
    with InMemorySystem(collecting(bulks, BULK_SIZE=3)) as system:
        sent = system.deliver("queue", [1, 2])
        system.disconnect()
        system.advance(10)
        sent += system.deliver("queue", [3, 4, 5])
        assert sorted(body for bulk in bulks for body in bulk) == [1, 2, 3, 4, 5]
        assert [one.actions for one in sent] == [[Actions.ACK]] * 5


def test_the_end_waits_for_handlers_and_for_bulks_that_are_not_full() -> None:
    """D1.6: the process ended at once, with handlers in the middle of their work."""
    app, done = new_app(), list[int]()

    @app.route(["queue"], options={Options.BULK_SIZE: 2, Options.IN_FLIGHT: 1})
    async def handler(messages: Any) -> None:
        await asyncio.sleep(3)
        done.extend(message.body for message in messages)

    with InMemorySystem(app) as system:
        sent = system.deliver("queue", [1, 2, 3])
        assert done == []
    assert done == [1, 2, 3]
    assert [one.actions for one in sent] == [[Actions.ACK]] * 3


def test_a_shutdown_hook_that_raises_keeps_neither_the_others_nor_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """D1.7: the process never ended."""
    app, calls = new_app(), []
    app.route(["queue"])(lambda messages: None)

    @app.run_on_shutdown
    async def bad(app: App) -> None:
        raise ValueError("cannot close")

    @app.run_on_shutdown
    async def good(app: App) -> None:
        calls.append("closed")

    with InMemorySystem(app, raise_errors=False):
        pass
    assert calls == ["closed"]
    assert "a shutdown hook raised ValueError: cannot close" in caplog.text


def test_a_timer_of_an_hour_does_not_delay_the_end() -> None:
    """D1.7: the end waited until its interval was over."""
    app, runs = new_app(), []
    app.route(["queue"])(lambda messages: None)

    @app.run_every(3600)
    async def hourly(app: App) -> None:
        runs.append("run")

    with InMemorySystem(app) as system:
        system.advance(1)
        before = system.world.clock()
    assert runs == ["run"]
    assert system.world.clock() - before < 60


@pytest.mark.parametrize(("in_flight", "most"), [(1, 1), (3, 3), (None, 64)])
def test_bulks_at_once_are_as_many_as_the_route_says(in_flight: int | None, most: int) -> None:
    """D1.9: there were as many as the prefetch, and no option."""
    app, running, seen = new_app(), 0, 0
    options = {} if in_flight is None else {Options.IN_FLIGHT: in_flight}

    @app.route(["queue"], options=options)
    async def handler(messages: Any) -> None:
        nonlocal running, seen
        running += 1
        seen = max(seen, running)
        await asyncio.sleep(1)
        running -= 1

    with InMemorySystem(app) as system:
        system.deliver("queue", range(128))
        system.advance(200)
    assert seen == most


def test_a_bulk_is_handed_out_by_the_age_of_its_oldest_message() -> None:
    """D1.10: a global tick did it, which could come at any time."""
    bulks: Bulks = []
    with InMemorySystem(collecting(bulks, BULK_SIZE=3, BULK_FLUSH_INTERVAL=10)) as system:
        system.advance(7)
        system.deliver("queue", [1])
        system.advance(6)
        system.deliver("queue", [2])
        system.advance(3.9)
        assert bulks == []
        system.advance(0.1)
        assert bulks == [[1, 2]]


def test_half_a_second_is_a_flush_interval() -> None:
    """D1.10: it became 0, and a loop that never slept."""
    bulks: Bulks = []
    with InMemorySystem(collecting(bulks, BULK_SIZE=3, BULK_FLUSH_INTERVAL=0.5)) as system:
        system.deliver("queue", [1])
        system.advance(0.4)
        assert bulks == []
        system.advance(0.1)
        assert bulks == [[1]]


def test_the_prefetch_and_the_heartbeat_are_taken_as_they_are_given() -> None:
    """D1.10: `prefetch_count=` of a connection, and every heartbeat, were ignored."""
    app = App(host="127.0.0.1", user="u", password="p", prefetch_count=1024, heartbeat=20)
    app.route(["queue"], options={Options.BULK_SIZE: 256})(lambda messages: None)
    (pipeline,) = build_plan(app).pipelines
    assert pipeline.routes[0].prefetch == 1024
    assert json.loads(pipeline.settings)["heartbeat"] == 20


def test_a_queue_that_is_deleted_stops_no_other_and_is_consumed_once_it_is_there() -> None:
    """D1.11: the worker stopped without a word; a missing queue stopped those of its route."""
    app = new_app()
    app.route(["gone", "there"])(lambda messages: None)
    with InMemorySystem(app) as system:
        system.world.missing.add("gone")
        system.world.lose_queue("gone", "the queue was deleted")
        system.run_until_idle()
        (sent,) = system.deliver("there", [1])
        assert sent.actions == [Actions.ACK]
        system.world.missing.clear()
        (late,) = system.deliver("gone", [2])
        system.advance(120)
        assert late.actions == [Actions.ACK]


def test_one_function_serves_several_routes() -> None:
    """D1.12: only the last route was kept."""
    app, seen = new_app(), []

    @app.route(["a"])
    @app.route(["b"], options={Options.BULK_SIZE: 2})
    def handler(messages: Any) -> None:
        seen.append([message.body for message in messages])

    with InMemorySystem(app) as system:
        system.deliver("a", [1])
        system.deliver("b", [2, 3])
    assert seen == [[1], [2, 3]]


def test_no_dependency_shuts_out_its_next_minor_release_but_those_whose_inside_is_used() -> None:
    """D1.13: aiohttp, pydantic and aioamqp were held at versions of years ago."""
    lines = (Path(__file__).parents[3] / "requirements.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    assert all("pinned, " in line for line in lines if "==" in line), "each pin says why"
    assert not pinned & {"httpx", "pydantic", "click"}


# ── event streams ──────────────────────────────────────────────────────────────


def streamed(directory: Path, text: str, count: int) -> list[Record]:
    with SSEServer(stream(text)) as server, Driver(server.url, directory) as driver:
        driver.client.consume("/events", 1, 100)
        records = driver.wait_for_events(count)
        assert len(server.requests) == 1  # the stream was never left
        return records


def test_lines_names_and_texts_of_events_are_read_as_the_standard_says(tmp_path: Path) -> None:
    """D1.14: each of these ended the connection, or named the wrong event."""
    text = "data: a\ndata: b\n\ndata\n\ndata: no json\n\ndata: 1\nevent: late\n\ndata: 2\n\n"
    records = streamed(tmp_path, text, 5)
    assert [record.body for record in records] == [b"a\nb", b"", b"no json", b"1", b"2"]
    names = [record.headers["event"] for record in records]
    assert names == ["message", "message", "message", "late", "message"]


def test_a_handler_that_raises_gets_its_events_again() -> None:
    """D1.14: the bulk was lost and the connection left."""
    app, seen = SSEApplication(url="http://127.0.0.1/"), []

    @app.route(["/events"], options={Options.BULK_SIZE: 2})
    async def handler(events: Any) -> None:
        seen.append([event.body for event in events])
        if len(seen) == 1:
            raise ValueError("once")

    with InMemorySystem(app, raise_errors=False) as system:
        sent = system.deliver("/events", [b"1", b"no json"])
        system.advance(120)
        assert [one.actions for one in sent] == [[Actions.REQUEUE, Actions.ACK]] * 2
    assert sorted(str(body) for bulk in seen[1:] for body in bulk) == ["1", "no json"]


def test_the_actions_of_a_route_hold_for_event_streams_too() -> None:
    """D1.14: they were never read."""
    app = SSEApplication(url="http://127.0.0.1/")

    @app.route(["/events"], options={Events.ON_EXCEPTION: Actions.DEAD_LETTER})
    async def handler(events: Any) -> None:
        raise ValueError("each time")

    with InMemorySystem(app, raise_errors=False) as system:
        (sent,) = system.deliver("/events", [1])
        assert sent.dead


def test_a_stream_may_be_quiet_for_longer_than_five_seconds() -> None:
    """D1.14: it was left after five."""
    assert SSEConnection("http://127.0.0.1/").idle_timeout == 90


def test_half_a_bulk_of_events_is_handed_out_once_it_is_old() -> None:
    """D1.14, and A6: the documents showed an interval that nothing heeded."""
    app, seen = SSEApplication(url="http://127.0.0.1/"), []

    @app.route(["/events"], options={Options.BULK_SIZE: 9, Options.BULK_FLUSH_INTERVAL: 5})
    async def handler(events: Any) -> None:
        seen.append(len(events))

    with InMemorySystem(app) as system:
        system.deliver("/events", [1, 2])
        system.advance(5)
    assert seen == [2]


def test_user_password_and_headers_of_an_event_stream_are_sent(tmp_path: Path) -> None:
    """A6: they were kept, and never sent."""
    with SSEServer(stream()) as server:
        app = SSEApplication(
            url=server.url,
            logger=logging.getLogger(),
            user="u",
            password="p",
            headers={"X-Key": "k"},
        )
        app.route(["/events"], headers={"X-Route": "r"})(lambda events: None)
        (pipeline,) = build_plan(app).pipelines
        with Driver(state_dir=tmp_path, **json.loads(pipeline.settings)) as driver:
            driver.client.consume("/events", 1, 1)
            driver.until(lambda: bool(server.requests))
    (request,) = server.requests
    sent = {name: request.headers[name] for name in ("authorization", "x-key", "x-route")}
    assert sent == {"authorization": "Basic dTpw", "x-key": "k", "x-route": "r"}
