"""The end of a process whose loop fails without end: its supervisor starts a sound one.

A loop whose descriptors were closed under it fails at once, each time. Run again without a
limit it takes a core, fills the log and answers nobody.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from actors.errors import Exit
from actors.log import own_logger
from actors.logic.supervision.fuse import Fuse

#: Seconds between two looks of a loop that has nothing to do.
BEAT_S = 1.0

logger = own_logger("actors.system")


class KillSwitch:
    """Counts the failures of one loop, and ends the process at one too many."""

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._fuse = Fuse()

    def failed(self, error: BaseException) -> None:
        if self._fuse.failed(time.monotonic()):
            end_process(self._loop, error)


def vital_thread(run: Callable[[], None], name: str) -> threading.Thread:
    """A daemon thread that the process cannot do without: it ends with what the thread raises."""

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            end_process(name, error)

    return threading.Thread(target=guarded, name=name, daemon=True)


def stay_awake(loop: asyncio.AbstractEventLoop) -> None:
    """Have an event loop look each second whether it still can: where its descriptors are
    closed while it waits on them, nothing else wakes it."""
    loop.call_later(BEAT_S, stay_awake, loop)


def end_process(loop: str, error: BaseException) -> NoReturn:
    """Say why, once, and end without any clean-up: nothing here can be relied on any more."""
    logger.critical("%s: its loop fails without end: this process ends", loop, exc_info=error)
    os._exit(Exit.CRASH)
