"""A pipeline's word on a joined host: what is begun and ended for it, and when it ends."""

from __future__ import annotations

from actors.logic.supervision.lease import LEASE, Lease

A, B = "pipeline/work/1@two#1", "pipeline/work/1@two#2"


def leased(*wanted: str, number: int = 1, asked: float = 0.0) -> Lease:
    lease = Lease()
    lease.renew(number, wanted, asked)
    return lease


def begin(lease: Lease, now: float = 0.0) -> list[str]:
    begun = lease.to_start(now)
    for name in begun:
        lease.began(name)
    return begun


def test_what_is_wanted_begins_once() -> None:
    lease = leased(A)
    assert lease.done == 0
    assert begin(lease) == [A]
    assert begin(lease) == []
    assert lease.done == 1


def test_what_died_is_told_and_not_begun_again() -> None:
    lease = leased(A)
    begin(lease)
    lease.died(A, "killed")
    assert [(death.handler, death.cause, death.innocent) for death in lease.deaths] == [
        (A, "killed", False)
    ]
    lease.renew(1, [A], 1.0)  # said again
    assert begin(lease) == []
    lease.renew(2, [B], 2.0)
    assert lease.deaths == ()
    assert begin(lease) == [B]


def test_a_roster_that_was_overtaken_changes_nothing() -> None:
    lease = leased(A, number=3)
    begin(lease)
    lease.renew(2, [B], 9.0)
    assert lease.to_end() == []
    assert begin(lease) == []
    assert lease.expires == LEASE


def test_a_slot_has_room_for_one() -> None:
    lease = leased(A)
    begin(lease)
    lease.renew(2, [B], 1.0)
    assert lease.to_end() == [A]
    assert begin(lease) == []
    assert lease.done == 1, "nobody may take it that the new one is dead"
    lease.died(A, "killed")
    assert begin(lease) == [B]
    assert lease.done == 2


def test_without_the_units_word_all_ends_and_nobody_is_to_blame() -> None:
    lease = leased(A, asked=1.0)
    begin(lease, 1.0)
    lease.expire(LEASE)
    assert lease.to_end() == []
    lease.expire(LEASE + 1.0)
    assert lease.to_end() == [A]
    assert lease.to_start(LEASE + 1.0) == []
    lease.renew(1, [A], 20.0)
    assert lease.to_end() == [A], "what was condemned ends, though the word came at last"
    lease.died(A, "killed by SIGKILL")
    (death,) = lease.deaths
    assert death.innocent
    assert death.cause == "no word from its pipeline for 10 s"
