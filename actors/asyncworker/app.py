"""`asyncworker.app`."""

from collections.abc import Callable
from typing import Any, NoReturn

from actors.app import App as _App
from actors.app import H
from actors.asyncworker.absent import HTTP
from actors.errors import InvalidRoute

__all__ = ["App"]


class App(_App):
    """`actors.App` with what only async-worker's had."""

    @property
    def http(self) -> NoReturn:
        """Raises `InvalidRoute`."""
        raise InvalidRoute(f"app.http is not taken over: {HTTP}")

    def route(self, *args: Any, methods: Any = None, **kwargs: Any) -> Callable[[H], H]:
        """`actors.App.route`; `methods`, of HTTP routes, raises `InvalidRoute`."""
        if methods is not None:
            raise InvalidRoute(f"route: methods= is not taken over: {HTTP}")
        return super().route(*args, **kwargs)

    get_connection = _App.connection
