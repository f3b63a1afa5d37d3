"""What handlers put into connections: stored and confirmed, or refused with the cause."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pytest

from actors import AMQPConnection, App, PublishError, SpoolConnection, SSEConnection
from actors.api.outlet import ConnectionOutlet
from actors.connectors.rabbitmq.publishing.publisher import AMQPPublisher
from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.file import SpoolFile
from actors.errors import ConfigurationError, InvalidConnection
from actors.logic.messages.entry import outgoing
from actors.usercode import publisher_thread
from tests.services.worker import until
from tests.support.broker import Admin, Broker, free_port
from tests.support.odd import outlet_misbehaviours


@pytest.fixture
def outlet(broker: Broker, vhost: str, admin: Admin) -> Iterator[ConnectionOutlet]:
    admin.declare("q")
    outlet = ConnectionOutlet("amqp", broker.settings(vhost))
    yield outlet
    outlet.close()


def get(admin: Admin, queue: str = "q") -> tuple[pika.BasicProperties, bytes]:
    method, properties, body = admin.channel.basic_get(queue, auto_ack=True)
    assert method is not None
    return properties, body


@pytest.mark.parametrize("data", [{}, 0, [], False, "", {"word": "ä"}])
def test_any_json_is_stored_as_it_is(outlet: ConnectionOutlet, admin: Admin, data: Any) -> None:
    outlet.put_sync("q", data)
    properties, body = get(admin)
    assert json.loads(body) == data
    assert properties.delivery_mode == 2
    assert properties.message_id


def test_a_message_goes_through_an_exchange_with_its_properties(
    outlet: ConnectionOutlet, admin: Admin
) -> None:
    admin.channel.exchange_declare("events", "topic")
    admin.channel.queue_bind("q", "events", "order.*")
    properties = {"headers": {"n": 1}, "message_id": "mine", "content_type": "text/plain"}
    asyncio.run(
        outlet.put(
            routing_key="order.new", serialized_data="text", exchange="events",
            properties=properties, mandatory=True,
        )
    )  # fmt: skip
    stored, body = get(admin)
    assert body == b"text"
    assert (stored.message_id, stored.content_type) == ("mine", "text/plain")
    assert stored.headers == {"n": 1}


def test_what_nobody_takes_is_an_error_where_it_is_mandatory(
    outlet: ConnectionOutlet, admin: Admin
) -> None:
    admin.channel.exchange_declare("events", "topic")
    outlet.put_sync("missing", 1)
    outlet.put_sync("missing", 1, exchange="events")
    with pytest.raises(PublishError, match="missing: there is no such queue"):
        outlet.put_sync("missing", 1, mandatory=True)
    with pytest.raises(PublishError, match="missing: no queue takes it"):
        outlet.put_sync("missing", 1, exchange="events", mandatory=True)
    with pytest.raises(PublishError, match="no exchange 'none'"):
        outlet.put_sync("q", 1, exchange="none")
    outlet.put_sync("q", "after all that")
    assert get(admin)[1] == b'"after all that"'


def test_in_one_batch_each_message_has_an_outcome_of_its_own(
    outlet: ConnectionOutlet, admin: Admin
) -> None:
    async def main() -> list[str | BaseException]:
        puts = [
            outlet.put("q" if n % 3 else "missing", n, mandatory=bool(n % 2)) for n in range(300)
        ]
        return await asyncio.gather(*puts, return_exceptions=True)

    outcomes = asyncio.run(main())
    failed = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
    assert failed == [n for n in range(300) if n % 3 == 0 and n % 2]
    assert {type(outcomes[n]) for n in failed} == {PublishError}
    bodies = [int(get(admin)[1]) for _ in range(200)]
    assert bodies == [n for n in range(300) if n % 3]


def test_what_cannot_be_a_message_is_refused_before_anything_is_sent(
    outlet: ConnectionOutlet, admin: Admin
) -> None:
    with pytest.raises(ValueError, match="not both"):
        outlet.put_sync("q", {}, b"{}")
    with pytest.raises(ValueError, match="needs data"):
        outlet.put_sync("q")
    with pytest.raises(TypeError, match="not JSON serializable"):
        outlet.put_sync("q", object())
    with pytest.raises(TypeError):
        outlet.put_sync("q", 1, properties={"colour": "red"})
    with pytest.raises(TypeError):
        outlet.put_sync("q", 1, properties={"headers": {"n": object()}})
    with pytest.raises(ValueError, match="255 bytes"):
        outlet.put_sync("q" * 256, 1)
    with pytest.raises(ValueError, match="255 bytes"):
        outlet.put_sync("", 1)
    assert admin.ready("q") == 0


def test_any_value_of_any_argument_is_taken_or_refused_as_documented(
    outlet: ConnectionOutlet,
) -> None:
    assert outlet_misbehaviours(outlet) == []


def test_a_put_waits_for_a_broker_that_comes_back_and_blocks_no_loop(
    own_broker: Broker, outlet: ConnectionOutlet, vhost: str
) -> None:
    ticks = 0

    async def main() -> None:
        nonlocal ticks
        await outlet.put("q", "before")
        own_broker.evaluate("catch mnesia:sync_log().")  # or a 3.10 forgets a young queue
        own_broker.kill()
        put = asyncio.ensure_future(outlet.put("q", "during"))
        restart = threading.Thread(target=own_broker.start)
        restart.start()
        while not put.done():
            ticks += 1
            await asyncio.sleep(0.01)
        await put
        restart.join()

    asyncio.run(main())
    assert ticks > 50
    admin = Admin(own_broker, vhost)
    with closing(admin.connection):
        assert [get(admin)[1] for _ in range(2)] == [b'"before"', b'"during"']


def test_a_broker_that_stays_away_is_an_error_in_time(
    broker: Broker, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_thread, "PUBLISH_TIMEOUT_S", 0.5)
    outlet = ConnectionOutlet("amqp", broker.settings(vhost, port=free_port()))
    started = time.monotonic()
    with pytest.raises(PublishError, match="refused"):
        outlet.put_sync("q", 1)
    assert 0.3 < time.monotonic() - started < 5.0
    outlet.close()


def test_refused_credentials_are_not_waited_for(broker: Broker, vhost: str) -> None:
    outlet = ConnectionOutlet("amqp", broker.settings(vhost, password="wrong"))
    started = time.monotonic()
    with pytest.raises(PublishError, match="403 ACCESS_REFUSED") as raised:
        outlet.put_sync("q", 1)
    assert "wrong" not in str(raised.value)
    assert time.monotonic() - started < 5.0
    outlet.close()


def test_another_vhost_has_a_connection_of_its_own(broker: Broker, admin: Admin) -> None:
    """B41"""
    other = broker.add_vhost()
    elsewhere = Admin(broker, other)
    elsewhere.declare("q")
    connection = AMQPConnection(
        host=broker.host, port=broker.port, user=broker.user, password=broker.password
    )
    asyncio.run(connection[other].put("q", "by index"))
    connection.put_sync("q", "by name", vhost=other)
    assert [get(elsewhere)[1] for _ in range(2)] == [b'"by index"', b'"by name"']
    elsewhere.connection.close()
    broker.delete_vhost(other)


def test_a_forked_child_publishes_on_a_connection_of_its_own(
    outlet: ConnectionOutlet, admin: Admin
) -> None:
    outlet.put_sync("q", "parent")
    child = os.fork()
    if not child:
        try:
            outlet.put_sync("q", "child")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    outlet.put_sync("q", "parent again")
    assert [get(admin)[1] for _ in range(3)] == [b'"parent"', b'"child"', b'"parent again"']


def test_a_spool_takes_the_same_messages(tmp_path: Path) -> None:
    connection = SpoolConnection(tmp_path / "spool.db")
    properties = {"headers": {"n": 1}, "message_id": "mine", "content_type": "text/plain"}
    asyncio.run(connection.put("q", {}, properties=properties, mandatory=True))
    connection.put_sync("q", serialized_data=b"bytes")
    with pytest.raises(PublishError, match="no exchange 'events'"):
        connection.put_sync("q", 1, exchange="events")
    stored = SpoolAdmin(SpoolFile(tmp_path / "spool.db")).show("q")
    assert [message.body for message in stored] == [b"{}", b"bytes"]
    assert (stored[0].id, stored[0].headers) == ("mine", {"n": 1})


def test_an_app_leads_to_connections_where_they_are_by_now(tmp_path: Path) -> None:
    declared = AMQPConnection(name="main", host="nowhere.invalid")
    app = App(connections=[declared])
    place = json.dumps({"path": str(tmp_path / "spool.db")})
    app.open_outlets([("main", "spool", place), ("extra", "spool", place)])
    declared.put_sync("q", 1)
    app.connection("main").put_sync("q", 2)
    app.connection("extra").put_sync("q", 3)
    with pytest.raises(InvalidConnection, match="'none'; there are: main, extra"):
        app.connection("none")
    app.close_outlets()
    stored = SpoolAdmin(SpoolFile(tmp_path / "spool.db")).show("q")
    assert [message.body for message in stored] == [b"1", b"2", b"3"]


def test_an_event_stream_takes_no_messages() -> None:
    with pytest.raises(ConfigurationError, match="kind sse takes no messages"):
        SSEConnection("http://localhost/").put_sync("q", 1)


def test_a_delayed_message_waits_outside_its_queue_and_has_the_id_that_was_returned(
    outlet: ConnectionOutlet, admin: Admin
) -> None:
    id = asyncio.run(outlet.put("q", 1, headers={"n": 1}, priority=3, delay=0.9))
    assert admin.ready("q") == 0
    assert outlet.put_sync("q", 2, message_id="mine") == "mine"
    assert get(admin)[1] == b"2"
    until(lambda: admin.ready("q"), why="the delay of a second is over")
    properties, body = get(admin)
    assert (body, properties.message_id, properties.priority) == (b"1", id, 3)
    assert properties.headers
    assert properties.headers["n"] == 1


def test_a_delay_that_may_not_be_declared_is_refused_with_what_is_needed(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    admin.declare("q")
    with broker.limited_user(vhost, "^$", ".*", ".*") as name:
        settings = broker.settings(vhost, user=name, password="secret")
        with closing(ConnectionOutlet("amqp", settings)) as outlet:
            with pytest.raises(PublishError, match=r"need configure and read on \^q"):
                outlet.put_sync("q", 1, delay=5)
            outlet.put_sync("q", 2)
    assert get(admin)[1] == b"2"


def test_a_delayed_message_that_is_refused_takes_no_neighbour_with_it(
    broker: Broker, vhost: str, admin: Admin
) -> None:
    admin.declare("q")
    publisher = AMQPPublisher(broker.settings(vhost))
    with closing(publisher):
        sent = [
            outgoing(publisher, queue, b"1", delay=delay)
            for queue, delay in (("q", 0.0), ("missing", 5.0), ("q", 5.0))
        ]
        publisher.send(sent, 10.0)
    assert [message.outcome for message in sent] == ["", "there is no such queue", ""]
    assert admin.ready("q") == 1


def test_a_delay_has_no_place_in_an_exchange(outlet: ConnectionOutlet) -> None:
    with pytest.raises(ValueError, match="delay needs a queue"):
        outlet.put_sync("q", 1, exchange="events", delay=1)
