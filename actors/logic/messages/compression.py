"""Bodies that travel compressed, and the bound on what they may become."""

from __future__ import annotations

import gzip
import zlib

#: The content encoding of what is compressed, in AMQP's words HTTP's.
GZIP = "gzip"

#: Bytes from which on a body is worth it, and beyond which nobody would inflate it.
COMPRESSED_FROM = 32 * 1024
INFLATED_MAX = 16 * 1024 * 1024

_LEVEL = 1  # of zlib: a body of JSON becomes a fifth, and no level after it halves that
_EITHER_HEADER = 32 + zlib.MAX_WBITS  # gzip, or zlib as crew writes it


def is_worth(body: bytes) -> bool:
    """Whether a body is to travel compressed."""
    return COMPRESSED_FROM < len(body) <= INFLATED_MAX


def compressed(body: bytes) -> bytes:
    """The body as gzip."""
    return gzip.compress(body, _LEVEL, mtime=0)


def inflated(body: bytes, most: int = INFLATED_MAX) -> bytes:
    """What was compressed, as gzip or zlib.

    Raises ValueError where it is neither, ends early, or would be larger than `most` bytes: a
    kilobyte may stand for a megabyte, and no more of it is ever made than `most`.
    """
    reader = zlib.decompressobj(_EITHER_HEADER)
    try:
        whole = reader.decompress(body, most)
    except zlib.error as error:
        raise ValueError(f"content_encoding is gzip, and the body is not: {error}") from None
    if reader.unconsumed_tail or (not reader.eof and len(whole) >= most):
        raise ValueError(f"the body becomes more than {most:,} bytes when it is inflated")
    if not reader.eof:
        raise ValueError("content_encoding is gzip, and the body ends early")
    return whole
