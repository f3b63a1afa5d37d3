"""`asyncworker.http.wrapper`."""

from actors.asyncworker.absent import HTTP, Absent

__all__ = ["RequestWrapper"]

RequestWrapper = Absent("http.wrapper.RequestWrapper", HTTP)
