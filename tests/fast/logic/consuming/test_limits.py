"""A broker's limit of deliveries: found out, kept from new queues, and met by a rescue."""

from __future__ import annotations

from typing import Any

import pytest
from pika.compat import long

from actors.logic.consuming.frames import Delivery
from actors.logic.consuming.limits import Inquiry, endangered, rescue_at, tighter, unlimited
from actors.logic.settlement.attempts import returned
from tests.support.deliveries import chunk, delivery

NEW, OLD = ({"product": "RabbitMQ", "version": version} for version in ("4.0.5", "3.13.7"))
QUORUM = {"x-queue-type": "quorum"}


def refusal(name: str, current: str) -> str:
    """As RabbitMQ words it."""
    return (
        f"PRECONDITION_FAILED - inequivalent arg '{name}' for queue 'it's' in vhost '/': received"
        f" none but current is {current}"
    )


@pytest.mark.parametrize(
    ("arguments", "broker", "limit"),
    [
        (QUORUM, NEW, -1),
        (QUORUM | {"x-dead-letter-exchange": "x"}, NEW, -1),
        (QUORUM | {"x-delivery-limit": 3}, NEW, None),
        (QUORUM, OLD, None),  # where -1 would drop a message at its first return
        (QUORUM, {"product": "LavinMQ", "version": "4.0"}, None),
        (QUORUM, {}, None),
        ({}, NEW, None),
        ({"x-queue-type": "stream"}, NEW, None),
    ],
)
def test_only_a_new_quorum_queue_of_a_broker_with_a_default_gets_no_limit(
    arguments: dict[str, Any], broker: dict[str, Any], limit: int | None
) -> None:
    better = unlimited(arguments, broker)
    assert better == (None if limit is None else arguments | {"x-delivery-limit": limit})


@pytest.mark.parametrize(
    ("refusals", "broker", "limit"),
    [
        ([], NEW, 20),
        ([], OLD, None),
        ([("x-delivery-limit", "the value '3' of type 'signedint'")], OLD, 3),
        ([("x-delivery-limit", "the value '-1' of type 'signedint'")], NEW, None),
        ([("x-delivery-limit", "the value '0' of type 'long'")], NEW, 0),
        ([("x-queue-type", "'classic'")], NEW, None),
        ([("x-queue-type", "none")], NEW, None),
        ([("durable", "'false'")], NEW, None),
        ([("x-dead-letter-exchange", "the value '' of type 'longstr'")], NEW, None),
        ([("x-max-length", "the value '5' of type 'long'")], NEW, 20),
        (
            [
                ("x-overflow", "the value 'reject-publish' of type 'longstr'"),
                ("x-single-active-consumer", "the value 'true' of type 'bool'"),
                ("x-delivery-limit", "the value '7' of type 'byte'"),
            ],
            NEW,
            7,
        ),
    ],
)
def test_the_limit_of_a_queue_is_known_by_what_is_refused(
    refusals: list[tuple[str, str]], broker: dict[str, Any], limit: int | None
) -> None:
    inquiry = Inquiry(broker)
    for name, current in refusals[:-1]:
        assert inquiry.refused(refusal(name, current))
    for name, current in refusals[-1:]:
        inquiry.refused(refusal(name, current))
    assert inquiry.limit == limit


SINGLE = ("x-single-active-consumer", "the value 'true' of type 'bool'")
SHARED = ("x-single-active-consumer", "the value 'false' of type 'bool'")
LIMIT = ("x-delivery-limit", "the value '3' of type 'signedint'")


@pytest.mark.parametrize(
    "others",
    [
        [],
        [("x-queue-type", "none")],
        [("x-queue-type", "'classic'")],
        [("durable", "'false'")],
        [("auto_delete", "'true'"), ("x-max-length", "the value '5' of type 'long'")],
        [LIMIT],
        [("x-dead-letter-exchange", "the value '' of type 'longstr'"), LIMIT],
    ],
    ids=str,
)
@pytest.mark.parametrize("consumer", [None, SINGLE, SHARED])
@pytest.mark.parametrize("first", [True, False])
def test_it_is_known_whether_a_queue_has_a_single_active_consumer(
    others: list[tuple[str, str]], consumer: tuple[str, str] | None, first: bool
) -> None:
    """Of every queue, by whatever the broker names first."""
    known = [consumer] if consumer else []
    inquiry = Inquiry(NEW)
    left = known + others if first else others + known
    while left and inquiry.refused(refusal(*left.pop(0))):
        pass
    if not left:
        inquiry.accepted()
    assert inquiry.single == (consumer is SINGLE)


@pytest.mark.parametrize("refused", ["ACCESS_REFUSED", refusal("exclusive", "'true'"), ""])
def test_a_queue_that_does_not_tell_may_have_a_single_active_consumer(refused: str) -> None:
    inquiry = Inquiry(NEW)
    assert not inquiry.refused(refused)
    assert inquiry.single


def test_an_inquiry_asks_with_what_it_knows_and_ends() -> None:
    inquiry = Inquiry(NEW)
    told = refusal("x-max-length", "the value '5' of type 'long'")
    assert inquiry.refused(told)
    assert inquiry.arguments == QUORUM | {"x-max-length": 5}
    assert not inquiry.refused(told), "the same answer twice"
    assert not inquiry.refused("PRECONDITION_FAILED - something else")
    assert not inquiry.refused(refusal("x-expires", "none"))
    assert inquiry.limit == 20


@pytest.mark.parametrize(
    ("limit", "rescued_at"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (8, 6), (20, 15), (100, 75)]
)
def test_a_rescue_leaves_a_part_of_the_limit_to_what_nobody_decides_on(
    limit: int, rescued_at: int
) -> None:
    assert rescue_at(limit) == rescued_at


def came_back(tag: int, **counts: int) -> bytes:
    headers = {name.replace("_", "-"): long(count) for name, count in counts.items()}
    return delivery(b"x", tag, headers)  # flagged as redelivered but for the first


@pytest.mark.parametrize(
    ("limit", "counts"), [(None, {}), (20, {2: 15, 3: 20}), (15, {1: 14, 2: 15, 3: 20}), (90, {})]
)
def test_what_came_back_nearly_as_often_as_it_may_is_endangered(
    limit: int | None, counts: dict[int, int]
) -> None:
    deliveries = [came_back(tag, x_delivery_count=n) for tag, n in enumerate((99, 14, 15, 20), 1)]
    # The first was never delivered before: the publisher wrote the count.
    arrived = chunk(deliveries, attempts=dict.fromkeys(range(4), 1))
    if limit == 15:
        assert rescue_at(limit) == 12
    assert endangered(arrived, limit) == counts


@pytest.mark.parametrize(
    ("headers", "count"),
    [
        ({}, 0),
        ({"x-delivery-count": 3}, 3),
        ({"x-acquired-count": 5}, 0),
        ({"x-acquired-count": 5, "x-delivery-count": 2}, 2),
        ({"x-acquired-count": 1, "x-delivery-count": 99}, 1),  # a publisher's, not replaced yet
        ({"x-delivery-count": "99"}, 0),
        ({"x-delivery-count": -5}, 0),
    ],
)
def test_only_what_a_quorum_queue_counts_is_a_return(headers: dict[str, Any], count: int) -> None:
    written = {name: long(n) if isinstance(n, int) else n for name, n in headers.items()}
    assert returned(Delivery(delivery(b"x", 2, written))) == count


def test_the_lower_of_two_limits_counts() -> None:
    assert tighter(None, None) is None
    assert tighter(3, None) == tighter(None, 3) == tighter(3, 20) == tighter(20, 3) == 3
