"""`asyncworker.sse.message`."""

from actors.api.kinds import Event as SSEMessage

__all__ = ["SSEMessage"]
