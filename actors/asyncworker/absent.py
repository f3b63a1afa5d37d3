"""Names that can be imported, so that a worker loads, and say what is missing when used."""

from __future__ import annotations

from typing import Any, NoReturn

from actors.errors import ConfigurationError

HTTP = "HTTP routes belong into a web application, which publishes with actors.Publisher"


class Absent:
    """A name that async-worker had and this package has not. Any use raises
    `ConfigurationError`."""

    def __init__(self, name: str, instead: str) -> None:
        self._error = f"asyncworker.{name} is not taken over: {instead}"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ConfigurationError(self._error)

    def __getitem__(self, item: Any) -> NoReturn:
        raise ConfigurationError(self._error)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # tools ask for those of everything
            raise AttributeError(name)
        raise ConfigurationError(self._error)
