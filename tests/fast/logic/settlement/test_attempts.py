"""A count of hand-outs is believed where Callboard or the queue itself wrote it, nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties
from pika.compat import long

from actors.connectors.rabbitmq.publishing.copies import properties
from actors.logic.consuming.frames import Delivery
from actors.logic.settlement.attempts import ATTEMPTS_MAX, counted, may_count, proven, told
from actors.roles.port import Republish
from tests.support.deliveries import framed

ATTEMPTS, SEAL = "x-callboard-attempts", "x-callboard-seal"


def delivery(
    headers: Any, body: bytes = b"body", *, redelivered: bool = False, id: str | None = "id"
) -> Delivery:
    return Delivery(framed(body, BasicProperties(headers=headers, message_id=id), redelivered))


def copy(raw: Delivery, attempts: int = 3, queue: str = "q", **more: Any) -> Delivery:
    """A copy of it as it comes back from where it waited."""
    request = Republish(1, queue, 1, 1, attempts=attempts, raw=b"", **{"dead": False, **more})
    return Delivery(framed(raw.body, properties(request, raw, 10_000), redelivered=False))


@pytest.mark.parametrize("id", ["id", "", None, "é" * 100])
@pytest.mark.parametrize("attempts", [1, 3, 70_000, ATTEMPTS_MAX])
def test_the_count_of_a_copy_is_believed_on_its_queue(attempts: int, id: str | None) -> None:
    assert counted(copy(delivery({"mine": 1}, id=id), attempts), "q") == attempts


def test_a_copy_of_a_copy_counts_on() -> None:
    again = copy(copy(delivery({}), 3), 4)
    assert counted(again, "q") == 4


def test_a_count_belongs_to_one_queue_one_body_one_id_and_one_number() -> None:
    raw = copy(delivery({}))
    headers = proven(3, "q", b"id", b"body")
    assert counted(raw, "q") == 3
    assert counted(raw, "other") == 0
    assert counted(delivery(headers), "q") == 3
    assert counted(delivery(headers, b"other"), "q") == 0
    assert counted(delivery(headers, id="other"), "q") == 0
    assert counted(delivery(headers | {ATTEMPTS: 2}), "q") == 0
    assert counted(delivery(headers | {ATTEMPTS: 2**63 - 1}), "q") == 0


def test_a_dead_letter_that_is_moved_back_begins_anew() -> None:
    letter = copy(delivery({}), 9, dead=True)
    assert counted(letter, "q") == 0


@pytest.mark.parametrize(
    "count", [1, 19, -1, 0, 2**31, 2**63 - 1, -(2**63), "3", None, [3], {"a": 1}, True]
)
@pytest.mark.parametrize("redelivered", [False, True])
@pytest.mark.parametrize("seal", [{}, {SEAL: ""}, {SEAL: "0" * 32}, {SEAL: 7}, {SEAL: None}])
def test_a_count_of_a_publishers_is_not_believed(
    count: Any, redelivered: bool, seal: dict[str, Any]
) -> None:
    raw = delivery({ATTEMPTS: count, **seal}, redelivered=redelivered)
    assert counted(raw, "q") == 0


@pytest.mark.parametrize(
    ("count", "redelivered", "believed"),
    [
        (long(3), True, 3),
        (long(3), False, 0),  # its publisher's: the queue has counted nothing yet
        (long(2**63 - 1), True, ATTEMPTS_MAX),
        (long(-(2**63)), True, 0),
        (3, True, 0),  # no quorum queue writes it so
        ("3", True, 0),
    ],
)
def test_the_count_of_a_quorum_queue_is_believed_of_what_it_delivers_again(
    count: Any, redelivered: bool, believed: int
) -> None:
    assert counted(delivery({"x-delivery-count": count}, redelivered=redelivered), "q") == believed


def test_what_carries_no_count_is_not_looked_at() -> None:
    assert not may_count(delivery({"a": "b", ATTEMPTS: 3}).properties)
    assert may_count(copy(delivery({})).properties)
    assert counted(Delivery(framed(b"", b"nonsense x-callboard-seal", True)), "q") == 0


@given(st.integers(), st.text(max_size=300), st.binary(max_size=300), st.binary(max_size=30))
def test_any_count_can_be_written_and_none_is_beyond_bounds(
    attempts: int, queue: str, id: bytes, body: bytes
) -> None:
    assert told(attempts)[ATTEMPTS] == proven(attempts, queue, id, body)[ATTEMPTS]
    assert 0 <= int(told(attempts)[ATTEMPTS]) <= ATTEMPTS_MAX
