"""Parts of chunks as they travel."""

from __future__ import annotations

from array import array

from actors.logic.bulks.bulk import Chunk, Slice, pieces


def chunk(number: int) -> Chunk:
    return Chunk(number, "words", 1, 10 * number, b"aabbccdd", array("I", [2, 4, 6, 8]))


def test_parts_side_by_side_in_a_chunk_travel_as_one_piece() -> None:
    one, other = chunk(1), chunk(2)
    parts = [Slice(one, 0, 1), Slice(one, 1, 3), Slice(other, 0, 1), Slice(other, 2, 4)]
    assert [(piece.first, piece.blob) for piece in pieces(parts)] == [
        (10, b"aabbcc"),
        (20, b"aa"),
        (22, b"ccdd"),
    ]


def test_no_parts_are_no_pieces() -> None:
    assert list(pieces([])) == []
