"""The size limit of a message: one for all who store one, and for what carries it."""

from __future__ import annotations

#: Bytes of body and headers together; a broker takes no more either.
MAX_MESSAGE = 512 * 1024 * 1024

#: Bytes of one message between actors: the largest delivery, with room for what goes with it.
MAX_FRAME = MAX_MESSAGE + 64 * 1024 * 1024

#: Bytes of several deliveries that travel together; a larger one travels by itself.
TRANSFER_MAX = 64 * 1024 * 1024


def check_size(size: int) -> None:
    """Raises `ValueError` for more than a message may have."""
    if size > MAX_MESSAGE:
        raise ValueError(
            f"a message has at most {MAX_MESSAGE:,} bytes with its headers, not {size:,}"
        )
