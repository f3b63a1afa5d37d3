"""`asyncworker.routes`."""

from actors.api.options import AMQPRouteOptions

__all__ = ["AMQPRouteOptions"]
