"""`asyncworker.routes`."""

from actors.options import AMQPRouteOptions

__all__ = ["AMQPRouteOptions"]
