"""The chunks a batcher answers for, and what it remembers of them, no longer than it must."""

from __future__ import annotations

from actors.logic.bulks.bulk import Chunk
from actors.logic.settlement.settling import ChunkTable
from tests.support.deliveries import chunk, one, whole


def registered(*chunks: Chunk) -> ChunkTable[str]:
    table: ChunkTable[str] = ChunkTable()
    for made in chunks:
        table.add(made)
    return table


def test_a_range_is_located_in_each_chunk_that_it_touches() -> None:
    table = registered(chunk(3), chunk(2, number=2, first=4), chunk(4, number=3, first=9))
    located = [(s.chunk.number, s.start, s.stop) for s in table.locate(1, 3, 10)]
    assert located == [(1, 2, 3), (2, 0, 2), (3, 0, 2)]
    assert list(table.locate(1, 6, 8)) == []
    assert list(table.locate(2, 1, 99)) == []


def test_what_was_said_of_a_settled_chunk_is_repeated_while_the_connection_holds_it_open() -> None:
    made, other = chunk(2), chunk(1, number=2, first=3)
    table = registered(made, other)
    table.settle(one(made, 0), "first")
    assert table.repeat([1, 2, 9]) == []
    table.settle(one(made, 1), "second")
    assert table.repeat([1, 2, 9]) == ["first", "second"]
    assert table.repeat([2]) == []


def test_the_deliveries_are_let_go_before_the_outcomes() -> None:
    made = chunk(2)
    table = registered(made)
    table.settle(whole(made), "said")
    assert made.blob == b""
    assert table.repeat([1]) == ["said"]


def test_only_settled_chunks_that_the_connection_has_confirmed_are_forgotten() -> None:
    chunks = [chunk(1, number=number, first=number) for number in range(1, 5)]
    table = registered(*chunks)
    for made in (chunks[0], chunks[1], chunks[3]):
        table.settle(whole(made), "said")
    table.confirm([2], below=4)
    assert table.numbers == [2, 3, 4]
    assert table.open
    table.confirm([], below=9)
    assert table.numbers == [3]


def test_an_ended_epoch_is_forgotten_settled_or_not() -> None:
    table = registered(chunk(1), chunk(1, number=2, epoch=2), chunk(1, number=3, queue="r"))
    table.drop("q", 2)
    assert table.numbers == [2, 3]
    assert [s.chunk.number for s in table.locate(1, 1, 1)] == [3]
    table.drop("r", 9)
    table.drop("q", 9)
    assert not table.open
    assert not table._epochs
    assert not table._said
