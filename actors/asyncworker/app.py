"""`asyncworker.app`."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from actors.api.app import App as _App
from actors.api.app import H
from actors.api.options import Actions, Events, RouteOptions
from actors.asyncworker.absent import HTTP
from actors.errors import InvalidRoute

__all__ = ["App"]


class App(_App):
    """`actors.App` with what only async-worker's had."""

    @property
    def http(self) -> NoReturn:
        """Raises `InvalidRoute`."""
        raise InvalidRoute(f"app.http is not taken over: {HTTP}")

    def route(
        self, *args: Any, methods: Any = None, options: Any = None, **kwargs: Any
    ) -> Callable[[H], H]:
        """`actors.App.route`, where an exception that no table names requeues its messages.

        `methods`, of HTTP routes, raises `InvalidRoute`.
        """
        if methods is not None:
            raise InvalidRoute(f"route: methods= is not taken over: {HTTP}")
        return super().route(*args, options=_requeueing(options), **kwargs)

    get_connection = _App.connection


def _requeueing(options: Any) -> Any:
    """Options with async-worker's default for what they leave out of their table."""
    if isinstance(options, RouteOptions):
        table = _completed(options.on_exception)
        return options.model_copy(update={Events.ON_EXCEPTION.value: table})
    if options is None or isinstance(options, Mapping):
        given = dict(options or {})
        return given | {Events.ON_EXCEPTION: _completed(given.get(Events.ON_EXCEPTION))}
    return options


def _completed(on_exception: Any) -> Any:
    if on_exception is None:
        return Actions.REQUEUE
    if isinstance(on_exception, Mapping):
        return {Exception: Actions.REQUEUE, **on_exception}
    return on_exception
