"""`asyncworker.conf`."""

import logging
from collections.abc import Generator
from functools import partialmethod
from typing import Any

from actors.asyncworker.absent import Absent

__all__ = ["logger", "settings"]


class _Logged:
    """The answer of logging: something to await for those who do."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class _Logger:
    """The standard logger `asyncworker`: up to 0.5 it was called, later on awaited."""

    def _log(self, method: str, *args: Any, **kwargs: Any) -> _Logged:
        log = getattr(logging.getLogger("asyncworker"), method)
        log(*args, **{"stacklevel": 2, **kwargs})
        return _Logged()

    debug = partialmethod(_log, "debug")
    info = partialmethod(_log, "info")
    warning = partialmethod(_log, "warning")
    error = partialmethod(_log, "error")
    critical = partialmethod(_log, "critical")
    exception = partialmethod(_log, "exception")


logger = _Logger()
settings = Absent("conf.settings", "see `callboard run --help` for flags and variables")
