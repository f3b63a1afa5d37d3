"""`asyncworker.http`."""

from actors.asyncworker.absent import HTTP, Absent
from actors.asyncworker.http.wrapper import RequestWrapper

__all__ = ["HTTPMethods", "RequestWrapper"]

HTTPMethods = Absent("http.HTTPMethods", HTTP)
