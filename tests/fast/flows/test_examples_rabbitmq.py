"""The examples that async-worker's users know, moved by one `sed`, on the kit in memory."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from actors import Actions
from actors.plan.build import build_plan
from actors.testing import InMemorySystem
from tests.support.moved import load

APP = """
from asyncworker import App
from asyncworker.options import Actions, Events, Options

app = App(host="127.0.0.1", user="guest", password="guest", prefetch_count=256)
"""

DRAIN = """
@app.route(["asgard/counts", "asgard/counts/errors"], vhost="fluentd")
async def drain_handler(messages):
    for m in messages:
        logger.info(m.body)
"""

#: As it was written for 0.1, which called it with one message.
DRAIN_0_1 = """
@app.route(["asgard/counts", "asgard/counts/errors"], vhost="fluentd")
async def drain_handler(message):
    logger.info(message)
"""


class Log(list[Any]):
    info = list.append


def test_a_worker_on_two_queues_of_a_vhost() -> None:
    log = Log()
    worker = load(APP + DRAIN, logger=log)
    (pipeline,) = build_plan(worker.app).pipelines
    assert (json.loads(pipeline.settings)["vhost"], pipeline.kind) == ("fluentd", "amqp")
    with InMemorySystem(worker.app) as system:
        counts = system.deliver("asgard/counts", [{"n": 1}, {"n": 2}])
        errors = system.deliver("asgard/counts/errors", [{"n": 3}])
        assert log == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert [sent.actions for sent in counts + errors] == [[Actions.ACK]] * 3


def test_a_message_is_given_back_where_the_handler_raises() -> None:
    calls: list[Any] = []
    worker = load(
        APP
        + """
@app.route(["queue"])
async def handler(messages):
    calls.append(messages[0].body)
    if len(calls) == 1:
        raise ValueError("only once")
""",
        calls=calls,
    )
    with InMemorySystem(worker.app, raise_errors=False) as system:
        (sent,) = system.deliver("queue", ["a"])
        assert (calls, sent.actions) == (["a", "a"], [Actions.REQUEUE, Actions.ACK])


def test_the_handler_of_0_1_gets_a_list_now_and_one_loop_is_the_whole_change() -> None:
    old, new = Log(), Log()
    for source, log in ((DRAIN_0_1, old), (DRAIN, new)):
        with InMemorySystem(load(APP + source, logger=log).app) as system:
            system.deliver("asgard/counts", ["a", "b"])
    assert [[message.body for message in messages] for messages in old] == [["a"], ["b"]]
    assert new == ["a", "b"]


def test_a_message_is_rejected_and_not_given_back() -> None:
    worker = load(
        APP
        + """
@app.route(["queue"])
async def handler(messages):
    for message in messages:
        message.reject(requeue=False)
"""
    )
    with InMemorySystem(worker.app) as system:
        sent = system.deliver("queue", ["a", "b"])
        assert [one.actions for one in sent] == [[Actions.REJECT]] * 2
        assert system.dead("queue") == []


TABLES = """
@app.route(["queue1", "queue2"], options={
                                  Events.ON_SUCCESS: Actions.%s,
                                  Events.ON_EXCEPTION: Actions.%s,
                                  })
async def handler(messages):
    for message in messages:
        if message.body == "bad" and not message.redelivered:
            raise ValueError(message.body)
"""


@pytest.mark.parametrize("on_success", ["ACK", "REJECT"])
@pytest.mark.parametrize("on_exception", ["ACK", "REJECT", "REQUEUE"])
def test_the_tables_of_actions(on_success: str, on_exception: str) -> None:
    worker = load(APP + TABLES % (on_success, on_exception))
    with InMemorySystem(worker.app, raise_errors=False) as system:
        (good,) = system.deliver("queue1", ["good"])
        (bad,) = system.deliver("queue2", ["bad"])
        assert good.actions == [Actions[on_success]]
        again = [Actions[on_success]] if on_exception == "REQUEUE" else []
        assert bad.actions == [Actions[on_exception], *again]


def test_single_messages_override_the_action_of_their_bulk() -> None:
    worker = load(
        APP
        + """
@app.route(["queue"], options={
    Options.BULK_SIZE: 4,
    Events.ON_SUCCESS: Actions.REJECT,
    Events.ON_EXCEPTION: Actions.REJECT,
})
async def handler(messages):
    for message in messages:
        if message.body == "accept":
            message.accept()
        elif message.body == "drop":
            message.reject(requeue=False)
        elif message.body == "again" and not message.redelivered:
            message.reject()
    if any(message.body == "raise" for message in messages):
        raise ValueError
"""
    )
    with InMemorySystem(worker.app, raise_errors=False) as system:
        for last in ("return", "raise"):
            sent = system.deliver("queue", ["accept", "drop", "again", last])
            system.advance(60)  # the one that came again is alone
            assert [one.actions for one in sent] == [
                [Actions.ACK],
                [Actions.REJECT],
                [Actions.REQUEUE, Actions.REJECT],
                [Actions.REJECT],
            ]


BULKS = """
@app.route(["queue"], options={Options.BULK_SIZE: 1000})
async def _handler(messages):
    sizes.append(len(messages))
"""


@pytest.mark.parametrize(
    ("prefetch", "sizes"), [(2000, [1000, 1000]), (1000, [1000, 1000]), (256, [256] * 7)]
)
def test_bulks_of_a_thousand_or_of_what_the_prefetch_allows(
    prefetch: int, sizes: list[int]
) -> None:
    seen: list[int] = []
    worker = load(APP.replace("256", str(prefetch)) + BULKS, sizes=seen)
    with InMemorySystem(worker.app) as system:
        sent = system.deliver("queue", range(2000))
        assert seen == sizes
        system.advance(60)
        assert sum(seen) == 2000
        assert all(one.actions == [Actions.ACK] for one in sent)


WORDS = """
from asyncworker import App
from asyncworker.connections import AMQPConnection
from asyncworker.options import Options, RouteTypes

app = App(connections=[
    AMQPConnection(hostname="127.0.0.1", username="guest", password="guest", prefetch_count=512)
])

@app.run_on_startup
async def connect(app):
    app["elasticsearch"] = connect_to_elasticsearch()

@app.route(
    ["words_to_index", "words_to_index_again", "words_of_today"],
    type=RouteTypes.AMQP_RABBITMQ,
    options={Options.BULK_SIZE: 256, Options.BULK_FLUSH_INTERVAL: 5},
)
async def index(messages):
    actions = []
    for message in messages:
        actions += [{"index": {"_index": "words"}}, {"word": message.body["word"]}]
    await app["elasticsearch"].bulk(actions)
"""


class Elasticsearch:
    """Fails the first request, as servers do."""

    def __init__(self) -> None:
        self.requests: list[list[Any]] = []
        self.fails = 1

    async def bulk(self, actions: list[Any]) -> None:
        await asyncio.sleep(0.2)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the index is away")
        self.requests.append(actions[1::2])


def test_words_of_several_queues_are_indexed_in_bulks_of_256() -> None:
    index = Elasticsearch()
    worker = load(WORDS, connect_to_elasticsearch=lambda: index)
    (pipeline,) = build_plan(worker.app).pipelines
    (route,) = pipeline.routes
    assert (route.prefetch, route.bulk_size) == (512, 256)
    with InMemorySystem(worker.app, raise_errors=False) as system:
        sent = system.deliver("words_to_index", [{"word": f"a{n}"} for n in range(1000)])
        sent += system.deliver("words_to_index_again", [{"word": f"b{n}"} for n in range(500)])
        sent += system.deliver("words_of_today", [{"word": f"c{n}"} for n in range(10)])
        system.advance(60)
        assert all(one.actions[-1] is Actions.ACK for one in sent)
        assert [str(error) for error in system.errors("words_to_index")] == ["the index is away"]
    indexed = [document["word"] for request in index.requests for document in request]
    assert sorted(indexed) == sorted(json.loads(one.body)["word"] for one in sent)
    assert max(map(len, index.requests)) == 256


TIMEIT = """
from asyncworker.utils import Timeit

async def log_callback(**kwargs):
    logger.info(kwargs)

@app.route(["xablau-queue"], vhost="/")
@Timeit(name="xablau-access-time", callback=log_callback)
async def drain_handler(messages):
    if messages[0].body == "error":
        raise KeyError("error")

@app.route(["parts"], vhost="/")
async def parts(messages):
    async with Timeit(name="a", callback=log_callback) as timeit:
        async with timeit(name="b"):
            async with timeit(name="c"):
                pass
"""


def test_a_timed_handler_is_timed_for_every_bulk() -> None:
    log = Log()
    worker = load(APP + TIMEIT, logger=log)
    with InMemorySystem(worker.app) as system:
        sent = system.deliver("xablau-queue", range(3))
        assert [one.actions for one in sent] == [[Actions.ACK]] * 3
    assert [list(call["transactions"]) for call in log] == [["xablau-access-time"]] * 3
    assert {call["exc_type"] for call in log} == {None}


def test_the_callback_of_a_timed_handler_sees_what_it_raises() -> None:
    log = Log()
    worker = load(APP + TIMEIT, logger=log)
    with InMemorySystem(worker.app, raise_errors=False) as system:
        (sent,) = system.deliver("xablau-queue", ["error"])
        assert set(sent.actions) == {Actions.REQUEUE}
    assert all(call["exc_type"] is KeyError for call in log)
    assert log[0]["exc_val"].args == ("error",)
    assert log[0]["exc_tb"] is not None


def test_parts_are_timed_for_every_bulk() -> None:
    log = Log()
    worker = load(APP + TIMEIT, logger=log)
    with InMemorySystem(worker.app) as system:
        system.deliver("parts", ["x", "y"])
    assert [list(call["transactions"]) for call in log] == [["c", "b", "a"]] * 2


def test_an_undecodable_message_is_caught_by_its_old_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = load(
        APP
        + """
from asyncworker.easyqueue.exceptions import UndecodableMessageException

@app.route(["queue"], options={Options.BULK_SIZE: 2})
async def handler(messages):
    for message in messages:
        try:
            logger.info(message.body)
        except UndecodableMessageException:
            message.reject(requeue=False)
""",
        logger=(log := Log()),
    )
    with caplog.at_level(logging.ERROR), InMemorySystem(worker.app) as system:
        sent = system.deliver("queue", [b"{", b'"fine"'])
        assert log == ["fine"]
        assert [one.actions for one in sent] == [[Actions.REJECT], [Actions.ACK]]
