"""`asyncworker.sse.app`."""

from actors.app import SSEApplication

__all__ = ["SSE_DEFAULT_HEADERS", "SSEApplication"]

SSE_DEFAULT_HEADERS = {"Accept": "text/event-stream"}
