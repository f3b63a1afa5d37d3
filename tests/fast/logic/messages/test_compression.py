"""Bodies that travel compressed, and bombs among them."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.logic.messages.compression import COMPRESSED_FROM, compressed, inflated, is_worth


@given(st.binary(max_size=1000))
def test_what_was_compressed_comes_back_as_gzip_and_as_crew_writes_it(body: bytes) -> None:
    assert inflated(compressed(body)) == body
    assert gzip.decompress(compressed(body)) == body
    assert inflated(zlib.compress(body)) == body


@pytest.mark.parametrize("made", [gzip.compress, zlib.compress])
def test_a_bomb_is_refused_before_it_takes_memory(made: object) -> None:
    assert callable(made)
    bomb = made(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="becomes more than 1,000 bytes"):
        inflated(bomb, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert inflated(made(bytes(1000)), 1000) == bytes(1000)


def test_what_is_cut_short_or_no_gzip_is_refused() -> None:
    with pytest.raises(ValueError, match="ends early"):
        inflated(compressed(b"x" * 1000)[:-9])
    with pytest.raises(ValueError, match="the body is not"):
        inflated(b"{}")


def test_small_bodies_travel_as_they_are() -> None:
    assert not is_worth(bytes(COMPRESSED_FROM))
    assert is_worth(bytes(COMPRESSED_FROM + 1))
