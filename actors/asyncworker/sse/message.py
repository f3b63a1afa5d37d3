"""`asyncworker.sse.message`."""

from actors.connectors.sse.message import Event as SSEMessage

__all__ = ["SSEMessage"]
