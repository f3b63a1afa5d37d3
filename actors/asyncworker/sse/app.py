"""`asyncworker.sse.app`."""

from actors.api.app import SSEApplication as _SSEApplication
from actors.asyncworker.app import App

__all__ = ["SSE_DEFAULT_HEADERS", "SSEApplication"]

SSE_DEFAULT_HEADERS = {"Accept": "text/event-stream"}


class SSEApplication(App, _SSEApplication):
    """`actors.SSEApplication`, with async-worker's default for exceptions."""
