"""The chunks a batcher answers for, and what it remembers of them, no longer than it must."""

from __future__ import annotations

from actors.logic.bulk import Chunk
from actors.logic.chunk_table import ChunkTable
from tests.support.deliveries import chunk, one, whole


def registered(*chunks: Chunk) -> ChunkTable[str]:
    register: ChunkTable[str] = ChunkTable()
    for made in chunks:
        register.add(made)
    return register


def test_a_range_is_located_in_each_chunk_that_it_touches() -> None:
    register = registered(chunk(3), chunk(2, number=2, first=4), chunk(4, number=3, first=9))
    located = [(s.chunk.number, s.first, s.last) for s in register.locate(1, 3, 10)]
    assert located == [(1, 3, 3), (2, 4, 5), (3, 9, 10)]
    assert list(register.locate(1, 6, 8)) == []
    assert list(register.locate(2, 1, 99)) == []


def test_what_was_said_of_a_settled_chunk_is_repeated_while_the_connection_holds_it_open() -> None:
    made, other = chunk(2), chunk(1, number=2, first=3)
    register = registered(made, other)
    register.settle(one(made, 0), "first")
    assert register.repeat([1, 2, 9]) == []
    register.settle(one(made, 1), "second")
    assert register.repeat([1, 2, 9]) == ["first", "second"]
    assert register.repeat([2]) == []


def test_the_deliveries_are_let_go_before_the_outcomes() -> None:
    made = chunk(2)
    register = registered(made)
    register.settle(whole(made), "said")
    assert made.blob == b""
    assert register.repeat([1]) == ["said"]


def test_only_settled_chunks_that_the_connection_has_confirmed_are_forgotten() -> None:
    chunks = [chunk(1, number=number, first=number) for number in range(1, 5)]
    register = registered(*chunks)
    for made in (chunks[0], chunks[1], chunks[3]):
        register.settle(whole(made), "said")
    register.confirm([2], below=4)
    assert register.numbers == [2, 3, 4]
    assert register.open
    register.confirm([], below=9)
    assert register.numbers == [3]


def test_an_ended_epoch_is_forgotten_settled_or_not() -> None:
    register = registered(chunk(1), chunk(1, number=2, epoch=2), chunk(1, number=3, queue="r"))
    register.drop("q", 2)
    assert register.numbers == [2, 3]
    assert [s.chunk.number for s in register.locate(1, 1, 1)] == [3]
    register.drop("r", 9)
    register.drop("q", 9)
    assert not register.open
    assert not register._epochs
    assert not register._said
