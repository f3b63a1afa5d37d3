"""Grouping deliveries into bulks."""

from __future__ import annotations

from typing import NamedTuple


class Piece(NamedTuple):
    """Neighbouring deliveries cut out of one chunk, still undecoded.

    The i-th ends at `ends[i] - base` in `blob` and starts where the one before it
    ends; `ends` is an `array("I")` as bytes. Its receipt is
    `(incarnation, epoch, first + i)`.
    """

    queue: str
    epoch: int
    first: int
    blob: bytes
    ends: bytes
    base: int
