"""The publisher on a real broker."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from actors.api.message import decode_json
from actors.errors import PublishError
from actors.publisher import Publisher
from tests.support.broker import Broker
from tests.support.odd import publisher_misbehaviours


@pytest.fixture
def url(broker: Broker, vhost: str) -> str:
    place = f"{broker.host}:{broker.port}/{quote(vhost, safe='')}"
    return f"amqp://{broker.user}:{broker.password}@{place}"


@pytest.fixture
def channel(url: str) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare("q", durable=True)
    yield channel
    connection.close()


@pytest.fixture
def publisher(url: str, channel: BlockingChannel) -> Iterator[Publisher]:
    with Publisher(url) as publisher:
        yield publisher


def depth(channel: BlockingChannel, queue: str = "q") -> int:
    return channel.queue_declare(queue, passive=True).method.message_count or 0


def get(channel: BlockingChannel, queue: str = "q") -> tuple[Any, Any]:
    _, properties, body = channel.basic_get(queue, auto_ack=True)
    return properties, body


def until(done: Callable[[], object]) -> None:
    end = time.monotonic() + 10.0
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_message_is_stored_with_all_that_was_given(
    publisher: Publisher, channel: BlockingChannel
) -> None:
    id = publisher.put("q", {"word": "a"}, headers={"kind": "x", "n": 1}, priority=2)
    properties, body = get(channel)
    assert body == b'{"word": "a"}'
    assert (properties.message_id, properties.headers) == (id, {"kind": "x", "n": 1})
    assert (properties.priority, properties.delivery_mode) == (2, 2)


def test_a_missing_queue_is_an_error_and_is_not_made(
    publisher: Publisher, channel: BlockingChannel
) -> None:
    with pytest.raises(PublishError, match="missing: there is no such queue"):
        publisher.put("missing", 1)
    with pytest.raises(PublishError, match="missing: there is no such queue"):
        publisher.put("missing", 1, delay=1.0)
    publisher.put("q", 1)
    assert depth(channel) == 1


def test_a_delayed_message_waits_in_a_queue_of_its_time(
    publisher: Publisher, channel: BlockingChannel
) -> None:
    began = time.monotonic()
    publisher.put("q", "later", delay=0.5)
    publisher.put("q", "at once")
    assert get(channel)[1] == b'"at once"'
    assert depth(channel, "q.retry.1") == 1
    until(lambda: depth(channel) == 1)
    assert time.monotonic() - began >= 0.9
    assert get(channel)[1] == b'"later"'


def test_many_are_confirmed_together_and_keep_their_order(
    publisher: Publisher, channel: BlockingChannel
) -> None:
    ids = publisher.put_many("q", [str(number).encode() for number in range(2000)])
    assert depth(channel) == 2000
    found = [get(channel) for _ in range(100)]
    assert [properties.message_id for properties, _ in found] == ids[:100]


def test_what_amqp_cannot_carry_is_refused(publisher: Publisher) -> None:
    with pytest.raises(TypeError):
        publisher.put("q", 1, headers={"a": 2**70})
    with pytest.raises(ValueError, match="priority"):
        publisher.put("q", 1, priority=-1)


def test_any_value_of_any_argument_is_taken_or_refused_as_documented(
    publisher: Publisher, channel: BlockingChannel
) -> None:
    assert publisher_misbehaviours(publisher, "data") == []
    for _ in range(depth(channel)):
        decode_json(get(channel)[1])  # what was taken can be given to a handler
    assert publisher_misbehaviours(publisher, "serialized_data") == []


def test_a_connection_that_the_broker_closed_is_made_anew(
    own_broker: Broker, publisher: Publisher, channel: BlockingChannel
) -> None:
    publisher.put("q", 1)
    own_broker.evaluate(
        '[rabbit_networking:close_connection(P, <<"test">>) || [{pid, P}, {client_properties, C}]'
        " <- rabbit_networking:connection_info_all([pid, client_properties]),"
        ' lists:keyfind(<<"connection_name">>, 1, C) =:='
        ' {<<"connection_name">>, longstr, <<"rabbitmq (publisher)">>}].'
    )
    publisher.put("q", 2)
    assert depth(channel) == 2


def test_threads_share_a_publisher(publisher: Publisher, channel: BlockingChannel) -> None:
    threads = [
        threading.Thread(target=lambda: [publisher.put("q", n) for n in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert depth(channel) == 80


def test_parent_and_forked_child_both_go_on(publisher: Publisher, channel: BlockingChannel) -> None:
    publisher.put("q", "before")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            publisher.put("q", "child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    publisher.put("q", "parent")
    assert depth(channel) == 3


def test_a_broker_that_is_not_there_is_an_error_with_its_cause() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(PublishError, match=rf"127.0.0.1:{port}.*refused"):
            Publisher(f"amqp://guest:secret@127.0.0.1:{port}/").put("q", 1)


def test_wrong_credentials_are_named_without_the_password(broker: Broker) -> None:
    with pytest.raises(PublishError, match="ACCESS_REFUSED") as caught:
        Publisher(f"amqp://guest:secret@{broker.host}:{broker.port}/").put("q", 1)
    assert "secret" not in str(caught.value)


def test_a_broker_that_never_answers_costs_no_more_than_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        began = time.monotonic()
        with pytest.raises(PublishError, match="no answer in time"):
            Publisher(f"amqp://guest:guest@127.0.0.1:{deaf.getsockname()[1]}/").put(
                "q", 1, timeout=0.5
            )
        assert time.monotonic() - began < 2.0


def test_a_publisher_reaches_queues_through_exchanges(
    publisher: Publisher, channel: BlockingChannel
) -> None:
    declare: Any = channel.exchange_declare  # its stub wants an enum of texts, and has none
    declare("events", "topic")
    channel.queue_bind("q", "events", "order.*")
    id = publisher.put("order.new", 1, exchange="events", properties={"type": "order"})
    properties, body = get(channel)
    assert (body, properties.message_id, properties.type) == (b"1", id, "order")
    publisher.put("nobody.listens", 1, exchange="events")
    with pytest.raises(PublishError, match="no queue takes it"):
        publisher.put("nobody.listens", 1, exchange="events", mandatory=True)
