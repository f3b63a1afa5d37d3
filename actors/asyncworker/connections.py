"""`asyncworker.connections`."""

from actors.connections import AMQPConnection, Connection, SSEConnection

__all__ = ["AMQPConnection", "Connection", "SSEConnection"]
