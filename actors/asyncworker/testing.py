"""`asyncworker.testing`."""

from actors.asyncworker.absent import Absent

__all__ = ["HttpClientContext", "http_client"]

_INSTEAD = "workers are tested with actors.testing.InMemorySystem"

HttpClientContext = Absent("testing.HttpClientContext", _INSTEAD)
http_client = Absent("testing.http_client", _INSTEAD)
