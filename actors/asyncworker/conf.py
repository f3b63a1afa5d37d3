"""`asyncworker.conf`."""

import logging
from collections.abc import Callable, Generator
from typing import Any

from actors.asyncworker.absent import Absent

__all__ = ["logger", "settings"]


class _Logged:
    """What logging returns: something to await for those who do."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class _Logger:
    """The standard logger `asyncworker`: up to 0.5 it was called, later on awaited."""

    def __getattr__(self, name: str) -> Callable[..., _Logged]:
        log = getattr(logging.getLogger("asyncworker"), name)

        def call(*args: Any, **kwargs: Any) -> _Logged:
            log(*args, **{"stacklevel": 2, **kwargs})
            return _Logged()

        return call


logger = _Logger()
settings = Absent("conf.settings", "see `callboard run --help` for flags and variables")
