"""`asyncworker.http.decorators`."""

from actors.asyncworker.absent import HTTP, Absent

__all__ = ["parse_path"]

parse_path = Absent("http.decorators.parse_path", HTTP)
