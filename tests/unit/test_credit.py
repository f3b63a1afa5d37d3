"""What one handler holds, and how much more it may be given."""

from __future__ import annotations

from actors.logic.bulk import Draft
from actors.logic.credit import BULKS, MESSAGES, Credit
from tests.deliveries import chunk, whole


def draft() -> Draft:
    return Draft([whole(chunk(1))])


def given(in_flight: int, *messages: tuple[int, ...]) -> Credit:
    """A handler that was sent these numbers, a message for each group, at time 0."""
    credit = Credit(in_flight)
    for numbers in messages:
        credit.give([(number, draft()) for number in numbers], 0.0)
    return credit


def test_two_unanswered_messages_are_enough() -> None:
    assert given(1, (1,)).room() == 1
    assert given(1, (1,), (2,)).room() == 0
    assert given(8, *((n,) for n in range(MESSAGES))).room() == 0


def test_who_runs_several_bulks_at_once_may_have_more_once_it_has_them() -> None:
    credit = given(4, (1,), (2,))
    credit.received([1, 2])
    assert credit.room() == 2


def test_who_runs_bulks_one_by_one_gets_no_more_for_having_them() -> None:
    credit = given(1, (1,), (2,))
    credit.received([1, 2])
    assert credit.room() == 0


def test_a_message_that_is_answered_in_part_is_still_unanswered() -> None:
    credit = given(1, (1, 2), (3,))
    credit.answer([1], 1.0)
    assert credit.room() == 0
    credit.answer([2], 2.0)
    assert credit.room() == 1


def test_a_bulk_is_answered_once() -> None:
    credit = given(1, (1, 2))
    assert [handed.number for handed in credit.answer([2, 7], 1.0)] == [2]
    assert [handed.number for handed in credit.answer([2, 1], 1.0)] == [1]
    assert credit.answer([1, 2], 1.0) == []


def test_quick_bulks_travel_together_up_to_a_limit() -> None:
    credit = given(1, (0,))
    for number in range(1, 40):
        credit.answer([number - 1], number * 1e-4)
        credit.give([(number, draft())], number * 1e-4)
    assert 10 <= credit.room() <= BULKS
    for number in range(40, 80):
        credit.answer([number - 1], number * 1.0)
        credit.give([(number, draft())], number * 1.0)
    assert credit.room() == 1


def test_a_reserved_handler_has_no_room_until_it_has_answered_all() -> None:
    credit = given(8, (1, 2))
    credit.reserved = True
    assert credit.room() == 0
    credit.answer([1], 1.0)
    assert credit.room() == 0
    credit.answer([2], 1.0)
    assert credit.room() == 8


def test_what_the_handler_does_not_know_is_sent_again_after_a_while() -> None:
    credit = given(1, (1,))
    credit.give([(2, draft())], 5.0)
    assert credit.unknown({1, 2}, before=9.0) == []
    assert [handed.number for handed in credit.unknown(set(), before=4.0)] == [1]
    assert [handed.number for handed in credit.unknown({1}, before=9.0)] == [2]


def test_a_bulk_is_late_by_when_the_handler_could_begin_it() -> None:
    credit = given(1, (1,), (2,))
    credit.answer([1], 9.0)
    assert credit.overdue(18.9, timeout=10.0) is None
    late = credit.overdue(19.0, timeout=10.0)
    assert late is not None
    assert late.number == 2


def test_bulks_that_run_at_once_are_late_at_once() -> None:
    assert given(2, (1, 2, 3)).bulks[2].started == 0.0
    assert given(2, (1, 2, 3)).bulks[3].started is None
