"""`asyncworker.app`."""

from typing import NoReturn

from actors.app import App as _App
from actors.asyncworker.absent import HTTP
from actors.connections import Connection
from actors.errors import InvalidRoute

__all__ = ["App"]


class App(_App):
    """`actors.App` with what only async-worker's had."""

    @property
    def http(self) -> NoReturn:
        """Raises `InvalidRoute`."""
        raise InvalidRoute(f"app.http is not taken over: {HTTP}")

    def get_connection(self, name: str) -> Connection:
        """`connection` by its old name."""
        return self.connection(name)
