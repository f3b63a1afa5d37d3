"""`asyncworker.sse.message`."""

from actors.kinds import Event as SSEMessage

__all__ = ["SSEMessage"]
