"""A message that kills its process is found, and its neighbours are cleared."""

from __future__ import annotations

from actors.logic.bulks.bulk import Draft
from actors.logic.bulks.route_queue import Suspects
from tests.support.deliveries import chunk, one, positions, whole


def waiting(suspects: Suspects) -> list[list[int]]:
    """All that waits to run alone, in its order."""
    drafts = [draft for _ in range(len(suspects)) if (draft := suspects.next())]
    assert all(draft.alone for draft in drafts)
    return [positions(draft) for draft in drafts]


def test_bulks_that_shared_a_process_run_alone_in_their_turn() -> None:
    suspects = Suspects(3)
    parts = whole(chunk(6)).split(3)
    assert suspects.died([Draft([part]) for part in parts], alone=False) == []
    assert waiting(suspects) == [[1, 2, 3], [4, 5, 6]]


def test_a_bulk_that_dies_by_itself_is_halved_before_anything_else_runs() -> None:
    suspects = Suspects(3)
    suspects.quarantine(Draft([one(chunk(9), 8)]))
    suspects.died([Draft([whole(chunk(5))])], alone=True)
    assert waiting(suspects) == [[1, 2], [3, 4, 5], [9]]


def test_a_message_alone_is_guilty_after_so_many_crashes() -> None:
    suspects, draft = Suspects(3), Draft([whole(chunk(1))])
    assert suspects.died([draft], alone=True) == []
    assert suspects.died([draft], alone=True) == []
    assert suspects.died([draft], alone=True) == [draft]


def test_an_answer_forgives_the_crashes_before() -> None:
    suspects, draft = Suspects(2), Draft([whole(chunk(1))])
    suspects.died([draft], alone=True)
    suspects.forget(draft)
    assert suspects.died([draft], alone=True) == []
    assert suspects.died([draft], alone=True) == [draft]


def test_crashes_are_counted_for_nobody_who_is_gone() -> None:
    suspects = Suspects(2)
    for position in range(1, 4):
        suspects.died([Draft([whole(chunk(1, first=position))])], alone=True)
    culprits = suspects.died([Draft([whole(chunk(1, first=1))])], alone=True)
    suspects.forget(Draft([whole(chunk(1, first=2))]))
    assert [positions(draft) for draft in culprits] == [[1]]
    suspects.drop("q", 2)
    assert not suspects._crashes
    assert not suspects


def test_an_ended_epoch_leaves_the_suspects_of_others_alone() -> None:
    suspects = Suspects(2)
    old, new = chunk(2), chunk(1, number=2, epoch=2, first=7)
    suspects.died([Draft([one(old, 0), whole(new)]), Draft([one(old, 1)])], alone=False)
    assert sorted(part.start for part in suspects.drop("q", 2)) == [0, 1]
    assert waiting(suspects) == [[7]]
