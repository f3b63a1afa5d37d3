"""`asyncworker.exceptions`."""

from actors.errors import InvalidConnection, InvalidRoute

__all__ = ["InvalidConnection", "InvalidRoute"]
