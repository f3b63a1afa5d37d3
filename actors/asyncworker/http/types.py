"""`asyncworker.http.types`."""

from actors.asyncworker.absent import HTTP, Absent

__all__ = ["PathParam"]

PathParam = Absent("http.types.PathParam", HTTP)
