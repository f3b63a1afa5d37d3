"""Dead letters of a real broker: looked at, handed out again, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from actors.cli import invoke
from actors.connectors.rabbitmq.admin import BrokerAdmin
from actors.connectors.spool.admin import DeadFilter
from actors.errors import ConfigurationError, PublishError, UnreachableError
from tests.fast.cli.test_dead_letters import ODD
from tests.support.broker import Admin, Broker, RawProperties, free_port


@pytest.fixture
def world(broker: Broker, vhost: str) -> Iterator[Admin]:
    other = Admin(broker, vhost)
    other.declare("words")
    other.declare("words.dead")
    yield other
    other.connection.close()


@pytest.fixture
def admin(broker: Broker, vhost: str) -> BrokerAdmin:
    return BrokerAdmin(broker.settings(vhost))


def bury(world: Admin, name: str, error: str = "builtins.ValueError", **headers: Any) -> None:
    """As Callboard does it."""
    notes = {
        "x-callboard-attempts": 3,
        "x-callboard-error": error,
        "x-callboard-reason": "no good",
        "x-callboard-route": "words",
        "x-callboard-queue": "words",
        "x-callboard-time": "2030-01-31T12:00:00.000+00:00",
    }
    world.publish("words.dead", name.encode(), message_id=name, headers={**headers, **notes})


def test_a_dead_letter_tells_how_it_died_and_looking_leaves_it_there(
    world: Admin, admin: BrokerAdmin
) -> None:
    bury(world, "a", mine="kept")
    for _ in range(2):
        (letter,) = admin.dead("words")
        assert (letter.id, letter.body, letter.headers) == ("a", b"a", {"mine": "kept"})
        assert (letter.attempts, letter.error) == (3, "builtins.ValueError")
        assert (letter.reason, letter.route, letter.queue) == ("no good", "words", "words")
        assert letter.died == 1896091200.0


def test_a_redriven_letter_begins_anew_and_leaves_the_dead(
    world: Admin, admin: BrokerAdmin
) -> None:
    bury(world, "a", mine=1)
    bury(world, "b")
    assert admin.redrive("words", DeadFilter(ids=["a"])) == ["a"]
    assert [letter.id for letter in admin.dead("words")] == ["b"]
    _, properties, body = world.channel.basic_get("words", auto_ack=True)
    assert (properties.message_id, properties.headers, body) == ("a", {"mine": 1}, b"a")
    assert properties.delivery_mode == 2


def test_letters_are_chosen_by_error_time_and_number(world: Admin, admin: BrokerAdmin) -> None:
    for name in "abc":
        bury(world, name, error="builtins.ValueError" if name != "b" else "my.TooLong")
    assert [x.id for x in admin.dead("words", DeadFilter(error="TooLong"))] == ["b"]
    assert [x.id for x in admin.dead("words", DeadFilter(error="builtins.ValueError"))] == [
        "a",
        "c",
    ]
    assert [x.id for x in admin.dead("words", DeadFilter(limit=2))] == ["a", "b"]
    assert admin.dead("words", DeadFilter(before=1.0)) == []
    assert len(admin.dead("words", DeadFilter(before=1896091201.0))) == 3


@pytest.mark.parametrize("module", ["", "actors.errors."])
@pytest.mark.parametrize("name", ["InvalidMessage", "UndecodableMessageException"])
def test_invalid_messages_are_found_by_either_name(
    world: Admin, admin: BrokerAdmin, module: str, name: str
) -> None:
    bury(world, "now", error="actors.errors.InvalidMessage")
    bury(world, "before", error="actors.errors.UndecodableMessageException")
    bury(world, "another", error="builtins.ValueError")
    which = DeadFilter(error=module + name)
    assert [letter.id for letter in admin.dead("words", which)] == ["now", "before"]


def test_a_dry_run_changes_nothing(world: Admin, admin: BrokerAdmin) -> None:
    bury(world, "a")
    assert admin.redrive("words", dry_run=True) == ["a"]
    assert admin.purge_dead("words", dry_run=True) == ["a"]
    assert len(admin.dead("words")) == 1
    assert world.ready("words") == 0


def test_a_purge_deletes_what_was_chosen_and_nothing_else(world: Admin, admin: BrokerAdmin) -> None:
    for name in "abc":
        bury(world, name)
    assert admin.purge_dead("words", DeadFilter(ids=["a", "c"])) == ["a", "c"]
    assert [letter.id for letter in admin.dead("words")] == ["b"]


def test_what_the_broker_itself_buried_is_told_and_redriven_too(
    world: Admin, admin: BrokerAdmin
) -> None:
    to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "words.dead"}
    world.declare("short", **to_dead, **{"x-message-ttl": 0})
    world.publish("short", b"late")
    deadline = time.monotonic() + 10
    while not world.ready("words.dead"):
        assert time.monotonic() < deadline
    (letter,) = admin.dead("words")
    assert (letter.reason, letter.queue, letter.attempts) == ("by the broker: expired", "short", 1)
    assert letter.died is not None
    assert abs(letter.died - time.time()) < 60
    assert admin.redrive("words") == [letter.id]
    _, properties, body = world.channel.basic_get("words", auto_ack=True)
    assert (properties.headers, body) == ({}, b"late")


@pytest.mark.parametrize("poison", [RawProperties.late(), RawProperties.deep()])
def test_a_header_that_no_library_reads_stops_nothing_and_travels_unchanged(
    world: Admin, admin: BrokerAdmin, poison: RawProperties
) -> None:
    world.channel.basic_publish("", "words.dead", b"a", poison)
    assert [letter.body for letter in admin.dead("words")] == [b"a"]
    assert len(admin.redrive("words")) == 1
    assert [letter.body for letter in admin.dead("words")] == []
    assert world.ready("words") == 1


@pytest.mark.parametrize("headers", ODD.values(), ids=ODD)
def test_one_odd_letter_keeps_nobody_from_the_others(
    world: Admin, admin: BrokerAdmin, broker: Broker, vhost: str, headers: dict[str, Any]
) -> None:
    world.publish("words.dead", b"a", message_id="before")
    world.publish("words.dead", b"b", headers=headers)
    world.publish("words.dead", b"c", message_id="after")
    url = f"amqp://{broker.user}:{broker.password}@{broker.host}:{broker.port}/{vhost}"
    for verb in (["list"], ["list", "--json"], ["show"], ["show", "--json"]):
        assert invoke(["dead", *verb, "words", "--connection", url]) == 0
    assert invoke(["dead", "redrive", "words", "--connection", url]) == 0
    assert world.ready("words") == 3
    world.publish("words.dead", b"b", headers=headers)
    assert invoke(["dead", "purge", "words", "--yes", "--connection", url]) == 0
    assert admin.dead("words") == []


def test_a_letter_stays_dead_where_its_copy_has_nowhere_to_go(
    world: Admin, admin: BrokerAdmin
) -> None:
    bury(world, "a")
    with pytest.raises(PublishError, match="'nowhere' does not exist"):
        admin.redrive("words", to="nowhere")
    assert [letter.id for letter in admin.dead("words")] == ["a"]


def test_a_queue_is_made_where_it_is_missing_and_counted_where_it_is_not(
    world: Admin, admin: BrokerAdmin
) -> None:
    assert admin.declare("fresh") == (0, 0)
    world.publish("fresh", b"a", b"b")
    assert admin.declare("fresh") == (2, 0)


def test_a_queue_that_never_had_a_dead_letter_has_none(admin: BrokerAdmin) -> None:
    admin.declare("fresh")
    assert admin.dead("fresh") == []
    assert admin.redrive("fresh") == []


def test_what_stands_in_the_way_is_told_without_the_password(
    broker: Broker, vhost: str, world: Admin, admin: BrokerAdmin
) -> None:
    with pytest.raises(ConfigurationError, match=r"queue 'none\.dead' does not exist"):
        admin.dead("none")
    with pytest.raises(ConfigurationError) as refused:
        BrokerAdmin(broker.settings(vhost, password="canary")).dead("words")
    assert "canary" not in str(refused.value)
    with pytest.raises(UnreachableError):
        BrokerAdmin(broker.settings(vhost, port=free_port())).dead("words")


def test_a_letter_without_properties_has_an_id_of_its_content(
    world: Admin, admin: BrokerAdmin
) -> None:
    world.channel.basic_publish("", "words.dead", b"a", pika.BasicProperties())
    first, second = admin.dead("words"), admin.dead("words")
    assert first[0].id == second[0].id


# ── a look changes nothing ───────────────────────────────────────────────────


def by_declaration(broker: Broker, vhost: str, limit: int) -> dict[str, int]:
    return {"x-delivery-limit": limit}


def by_policy(broker: Broker, vhost: str, limit: int) -> dict[str, int]:
    """Which no declaration shows."""
    definition = f'{{"delivery-limit": {limit}}}'
    broker.ctl("set_policy", "-p", vhost, "limit", r"\.dead$", definition, "--apply-to", "queues")
    return {}


GRAVES = [
    ("classic", None, 0),
    ("quorum", None, 0),  # from 4.0 on with a limit of 20
    ("quorum", by_declaration, 20),
    ("quorum", by_declaration, 1),
    ("quorum", by_declaration, 0),
    ("quorum", by_policy, 2),
]


@pytest.mark.parametrize(("kind", "limited", "limit"), GRAVES)
def test_looks_at_dead_letters_change_nothing(
    own_broker: Broker,
    vhost: str,
    world: Admin,
    admin: BrokerAdmin,
    kind: str,
    limited: Callable[[Broker, str, int], dict[str, int]] | None,
    limit: int,
) -> None:
    more = limited(own_broker, vhost, limit) if limited else {}
    world.channel.queue_delete("words.dead")
    world.declare("words.dead", **{"x-queue-type": kind, **more})
    for name in "abc":
        bury(world, name, mine=name)
    for properties in (RawProperties.late(), RawProperties.deep()):
        world.channel.basic_publish("", "words.dead", b"odd", properties)
    before = admin.dead("words")
    assert len(before) == 5
    looks: list[Callable[[], object]] = [
        lambda: admin.dead("words"),
        lambda: admin.dead("words", DeadFilter(limit=1)),
        lambda: admin.dead("words", DeadFilter(ids=["b"])),
        lambda: admin.redrive("words", dry_run=True),
        lambda: admin.redrive("words", DeadFilter(ids=["nobody"])),
        lambda: admin.purge_dead("words", dry_run=True),
        lambda: admin.purge_dead("words", DeadFilter(error="Other")),
    ]
    for number in range(25):
        looks[number % len(looks)]()
    assert admin.dead("words") == before
    assert admin.redrive("words", DeadFilter(ids=["b"])) == ["b"]
    assert admin.dead("words") == [letter for letter in before if letter.id != "b"]
    assert len(admin.purge_dead("words")) == 4
    assert admin.dead("words") == []


def test_a_look_where_no_copy_may_be_put_deletes_nothing_and_says_why(
    own_broker: Broker, vhost: str, world: Admin
) -> None:
    world.channel.queue_delete("words.dead")
    world.declare("words.dead", **{"x-queue-type": "quorum"})
    bury(world, "a")
    with own_broker.limited_user(vhost, "^$", "^$", ".*") as name:
        reader = BrokerAdmin(own_broker.settings(vhost, user=name, password="secret"))
        if own_broker.ctl("version") < "4.3":
            with pytest.raises(ConfigurationError, match="ACCESS_REFUSED"):
                reader.dead("words")
        else:  # it counts no looks
            assert [letter.id for letter in reader.dead("words")] == ["a"]
    assert [letter.id for letter in BrokerAdmin(own_broker.settings(vhost)).dead("words")] == ["a"]


def test_a_stream_has_no_dead_letters_to_take_out(world: Admin, admin: BrokerAdmin) -> None:
    world.channel.queue_delete("words.dead")
    world.declare("words.dead", **{"x-queue-type": "stream"})
    bury(world, "a")
    deadline = time.monotonic() + 10
    while not world.ready("words.dead") and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ConfigurationError, match=r"'words\.dead' .* is a stream"):
        admin.dead("words")
