"""`asyncworker.easyqueue.exceptions`."""

from actors.errors import InvalidMessage as MessageError
from actors.errors import UndecodableMessageException

__all__ = ["MessageError", "UndecodableMessageException"]
