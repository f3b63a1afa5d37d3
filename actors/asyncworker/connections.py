"""`asyncworker.connections`."""

from actors.api.connections import AMQPConnection, Connection, SSEConnection

__all__ = ["AMQPConnection", "Connection", "SSEConnection"]
