"""What a read of a busy consumer should bring."""

from __future__ import annotations

from actors.logic.consuming.flow import LARGEST, LONG, MANY, READ_MAX, SEVERAL_READS, SHORT, Flow
from actors.logic.settlement.ledger import Flush


def test_while_there_is_not_plenty_to_do_nothing_waits() -> None:
    flow = Flow(100)
    assert flow.worth() == (1, 0.0)
    flow.took(49, 4900, 0.0)
    assert flow.worth() == (1, 0.0)


def test_with_half_of_the_prefetch_in_hand_half_of_what_is_owed_is_worth_a_read() -> None:
    flow = Flow(100)
    flow.took(60, 6000, 0.0)
    assert flow.worth() == (40 * 100 // 2, LONG)


def test_with_all_of_it_in_hand_an_eighth_may_come_after_the_next_settlement() -> None:
    flow = Flow(100)
    flow.took(100, 1000, 0.0)
    assert flow.worth() == (12 * 10 // 2, LONG)


def test_a_read_of_a_certain_size_is_enough_in_any_case() -> None:
    flow = Flow(100)
    flow.took(60, 60 * READ_MAX // MANY, 0.0)
    assert flow.worth() == (READ_MAX, LONG)


def test_of_large_messages_several_are_worth_a_read() -> None:
    flow = Flow(100)
    flow.took(60, 60 * 40_000, 0.0)
    assert flow.worth() == (MANY * 40_000, LONG)
    assert flow.most == MANY * 40_000
    flow.took(1, LARGEST, 0.0)
    assert flow.worth() == (LARGEST, LONG)


def test_a_prefetch_of_one_waits_for_nothing() -> None:
    flow = Flow(1)
    flow.took(1, 1, 0.0)
    assert flow.worth()[0] == 1


def test_what_comes_quickly_may_wait_a_little_for_more() -> None:
    flow = Flow(1000)
    flow.took(1, 100, 0.0)
    flow.took(SEVERAL_READS, 100 * SEVERAL_READS, SHORT)
    owed = 1000 - 1 - SEVERAL_READS
    assert flow.worth() == (owed * 100 // 2, SHORT)
    flow.took(SEVERAL_READS - 1, 100 * SEVERAL_READS, 2 * SHORT)
    assert flow.worth() == (1, 0.0)


def test_every_way_to_settle_counts() -> None:
    flow = Flow(100)
    flow.took(60, 6000, 0.0)
    flow.settled(Flush(5, acked=((1, 5), (7, 7)), failed=(8,), returned=(9, 10), rejected=(11,)))
    assert flow.unsettled == 50
